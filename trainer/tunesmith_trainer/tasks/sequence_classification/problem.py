"""The kind of a classification problem, by its names in the API and in transformers' config.json."""

from __future__ import annotations

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import ClassificationSpec, TrainingJobSpec

SINGLE = "single_label_classification"
MULTI = "multi_label_classification"
REGRESSION = "regression"

BY_API_NAME = {
    "singleLabelClassification": SINGLE,
    "multiLabelClassification": MULTI,
    "regression": REGRESSION,
}

_METRICS = {"accuracy": (SINGLE, MULTI), "macroF1": (SINGLE, MULTI), "mse": (REGRESSION,), "spearman": (REGRESSION,)}
_WORDS = {SINGLE: "classes", MULTI: "classes", REGRESSION: "numbers"}


def settings_of(spec: TrainingJobSpec) -> ClassificationSpec:
    """Return the settings of a job, with the defaults where it has none."""
    return spec.classification or ClassificationSpec()


def require_metrics(spec: TrainingJobSpec, problem: str) -> None:
    """Fail if a gate is on a metric that a problem does not have.

    Args:
        spec: The job.
        problem: Its kind, as transformers names it.

    Raises:
        StageError: INVALID_SPEC.
    """
    for gate in spec.evaluation.gates:
        if problem not in _METRICS.get(gate.metric, (problem,)):
            others = ", ".join(name for name, kinds in _METRICS.items() if problem in kinds)
            kind = "regression" if problem != REGRESSION else "singleLabelClassification"
            raise StageError(
                Reason.INVALID_SPEC,
                f"spec.evaluation.gates: {gate.metric} is no metric of these rows, whose labels are {_WORDS[problem]}",
                f"Use a gate on evalLoss, {others}; if the labels are meant as {_OTHER[problem]}, write "
                f"spec.classification: {{problemType: {kind}}}",
            )


_OTHER = {SINGLE: "numbers to predict", MULTI: "numbers to predict", REGRESSION: "classes"}
