"""The tasks by name."""

from __future__ import annotations

from tunesmith_trainer.tasks.base import Task
from tunesmith_trainer.tasks.text_generation import TextGeneration

_TASKS: dict[str, Task] = {task.name: task for task in (TextGeneration(),)}


def register_task(task: Task) -> None:
    """Add a task; its facts are registered in `tunesmith_api.tasks`."""
    _TASKS[task.name] = task


def task_of(name: str) -> Task:
    """Return the task of a name that the spec's validation has accepted."""
    return _TASKS[name]
