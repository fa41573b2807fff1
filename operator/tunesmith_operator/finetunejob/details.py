"""What the message of a running stage says besides: pods that were replaced, and what training has changed."""

from __future__ import annotations

from tunesmith_api.work_folder import Stage
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.finetunejob.containers import end_of
from tunesmith_operator.finetunejob.jobs import FINAL_CODES
from tunesmith_operator.finetunejob.observed import Observed


def running_detail(observed: Observed, job: KubeObject, stage: Stage) -> str:
    """Return the text; empty if there is nothing to say."""
    adjusted = (observed.status.get("progress") or {}).get("adjusted") if stage is Stage.TRAIN else None
    return "; ".join(filter(None, (restarts(observed, job), adjusted)))


def restarts(observed: Observed, job: KubeObject) -> str:
    """Return a sentence about the pods that a Job had to replace; empty if there were none."""
    ends = [end for pod in observed.pods_of(job) if (end := end_of(pod)) is not None and end.code != 0]
    # A pod that is not replaced makes the Job fail, which is reported once its other pods have ended.
    if not ends or any(end.code in FINAL_CODES and not end.disruption for end in ends):
        return ""
    last = max(ends, key=lambda end: end.time)
    why = last.disruption or (last.outcome.value if last.outcome else last.reason) or f"exit code {last.code}"
    count = f"{len(ends)} pod{'' if len(ends) == 1 else 's'} had to be replaced"
    return f"{count}, the last one because of {why}"
