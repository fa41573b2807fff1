"""The registry of tasks."""

from __future__ import annotations

from tunesmith_trainer.tasks.base import Task
from tunesmith_trainer.tasks.question_answering.task import QuestionAnswering
from tunesmith_trainer.tasks.text_generation import TextGeneration
from tunesmith_trainer.tasks.token_classification.task import TokenClassification
from tunesmith_trainer.tasks.translation.task import Translation

_TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        TextGeneration(),
        TokenClassification(),
        QuestionAnswering(),
        Translation(),
    )
}


def register_task(task: Task) -> None:
    """Add a task; `tunesmith_api.tasks` must have an entry for it."""
    _TASKS[task.name] = task


def task_of(name: str) -> Task:
    """Return a task by its name, which validation of the spec has accepted."""
    return _TASKS[name]
