"""The registry of tasks."""

from __future__ import annotations

from tunesmith_api.spec import DpoSpec, TrainingJobSpec
from tunesmith_trainer.tasks.base import Task
from tunesmith_trainer.tasks.preferences.task import PreferenceTuning
from tunesmith_trainer.tasks.question_answering.task import QuestionAnswering
from tunesmith_trainer.tasks.sequence_classification.task import SequenceClassification
from tunesmith_trainer.tasks.text_generation import TextGeneration
from tunesmith_trainer.tasks.token_classification.task import TokenClassification
from tunesmith_trainer.tasks.translation.task import Translation

_TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        TextGeneration(),
        SequenceClassification(),
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


def task_for(spec: TrainingJobSpec) -> Task:
    """Return the task of a job, with its objective."""
    return PreferenceTuning(spec.dpo or DpoSpec()) if spec.compares_answers else task_of(spec.task)
