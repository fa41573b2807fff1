"""The failure of a run whose loss or gradient is no longer a number."""

from __future__ import annotations

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.resolve import Resolved


def diverged(what: str, step: int, resolved: Resolved, rows: str = "", before: float | None = None) -> StageError:
    """Return the error.

    Args:
        what: What is not a finite number, as a sentence without its end.
        step: The step that it belongs to.
        resolved: Values of the run.
        rows: The rows that it was computed on; empty if it is not about training rows.
        before: The loss of the step before; None if there was none.
    """
    message = (
        what + (f", on {rows}" if rows else "") + (f". The step before had the loss {before:.4f}" if before else "")
    )
    if step == 1 and rows:
        remedy = (
            "No weight has changed before the first step, so a lower learning rate does not help: look at these rows, "
            "and remove them or take another base model, as its weights may give no finite numbers for them"
        )
    else:
        remedy = (
            f"Lower spec.training.learningRate (now {resolved.learning_rate:g}), or raise spec.training.warmupRatio "
            f"(now the learning rate rises over {resolved.warmup_steps} steps)"
        )
        if rows:
            remedy += "; if it stops at the same rows then, look at them, and correct or remove them"
    return StageError(Reason.TRAINING_DIVERGED, message, remedy)
