"""Where the tuned model's answers come from.

Torch generates them, a small model's in little time. A large model without a GPU is too slow for that: there the
server's engine answers with an export, in batches, as it does anyway for the served metrics. What depends on the
answers, such as a gate on exactMatch, is then checked after the export.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith_api.spec import GateSpec, JobConfig, Precision
from tunesmith_api.tasks import METRICS
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.evaluate.validation import read_trained_evaluation
from tunesmith_trainer.models.weights import WeightFiles
from tunesmith_trainer.tasks.base import Task

_LARGE = 5 * 10**8  # parameters
_SERVED = (Precision.FP32, Precision.INT8, Precision.INT4)  # by accuracy


def answering_export(config: JobConfig, work: WorkFolder, task: Task, base: Path) -> str | None:
    """Return the precision whose export answers for the tuned model; None if torch does.

    Args:
        config: The job.
        work: The work folder.
        task: The job's task.
        base: The base model.
    """
    if not any(metric.needs_answers for metric in task.info.metrics):
        return None  # it generates nothing
    served = [precision for precision in _SERVED if precision in config.spec.precisions]
    if not served or not task.has_replay or "after" in read_trained_evaluation(config, work):
        return None
    return served[0].value if is_slow(base) else None


def is_slow(folder: Path) -> bool:
    """Return whether torch takes too long here for a model's answers."""
    from tunesmith_trainer.models.loading import device

    return device().type == "cpu" and WeightFiles(folder).parameters >= _LARGE


def gates_before_export(gates: Sequence[GateSpec], answering: str | None) -> list[GateSpec]:
    """Return the gates that can be checked before the export."""
    return [gate for gate in gates if answering is None or not METRICS[gate.metric].needs_answers]


def with_answers(after: Mapping[str, Any], served: Mapping[str, Mapping[str, Any]], answering: str) -> dict[str, Any]:
    """Return the tuned model's evaluation with the answers of an export, and the metrics that follow from them.

    Args:
        after: The evaluation without answers.
        served: The evaluation of each precision as it is served.
        answering: The precision that answers.
    """
    found = served[answering]
    metrics = {
        name: found["metrics"].get(name) if METRICS[name].needs_answers else value
        for name, value in after["metrics"].items()
    }
    answers = found["answers"]
    return {**after, "metrics": metrics, "answers": answers, "cut": [False] * len(answers), "answeredBy": answering}
