"""Why a stage's Job failed, and whether another attempt can help."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_api.advice import less_memory
from tunesmith_api.contract import KILLED, is_final, reason_of
from tunesmith_api.failures import EXIT_CODES, Reason
from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.status.reasons import OperatorReason
from tunesmith_api.work_folder import Stage
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.finetunejob.containers import End, end_of
from tunesmith_operator.finetunejob.placement import stage_spec
from tunesmith_operator.pods.facts import condition

_INDEX = "batch.kubernetes.io/job-completion-index"
_EXIT_CODE = re.compile(r"exit code (-?\d+)")


@dataclass(frozen=True)
class Failure:
    """Why a stage failed.

    Attributes:
        reason: The condition's reason.
        message: What happened, and what to do.
        is_final: Whether another attempt cannot help.
    """

    reason: str
    message: str
    is_final: bool = True


def failure_of(
    job: KubeObject,
    pods: list[KubeObject],
    stage: Stage,
    spec: FineTuneJobSpec,
    when: str,
    plan: Mapping[str, Any] | None = None,
) -> Failure:
    """Return why a Job failed.

    Args:
        job: The Job, with its condition Failed.
        pods: Its pods, oldest first.
        stage: The stage.
        spec: The FineTuneJob's spec.
        when: The stage and what it waited for, for a deadline that has passed.
        plan: The status's plan.
    """
    failed = condition(job, "Failed")
    if failed.get("reason") == "DeadlineExceeded":
        return deadline_exceeded(spec, when)
    ends = [end for pod in pods if (end := end_of(pod)) is not None and end.code != 0]
    ends.sort(key=lambda end: end.time)
    killed = [end for end in ends if end.out_of_memory]
    if killed:
        return out_of_memory(killed[-1], job, stage, spec, plan)
    final = [end for end in ends if end.outcome is not None and is_final(end.outcome)]
    if final:
        return Failure(_reason(final[-1]), final[-1].message or _unexplained(final[-1], stage))
    if any(end.code == KILLED for end in ends) or (not ends and _code_in(failed) == KILLED):
        what = f"{stage.value} was killed before it could save a checkpoint"
        return Failure(Reason.INTERRUPTED.value, what, is_final=False)
    if ends:
        return _gave_up(ends[-1], stage, spec)
    return _without_pods(failed, stage)


def out_of_memory(
    end: End, job: KubeObject, stage: Stage, spec: FineTuneJobSpec, plan: Mapping[str, Any] | None = None
) -> Failure:
    """Return the failure of a stage that exceeded its memory."""
    if end.outcome is Reason.OUT_OF_MEMORY and end.message:
        return Failure(Reason.OUT_OF_MEMORY.value, end.message)
    containers = job["spec"]["template"]["spec"]["containers"]
    limit = (containers[0].get("resources") or {}).get("limits", {}).get("memory")
    field = "resources.memory" if stage is Stage.TRAIN else f"stages.{stage.value}.memory"
    is_set = spec.resources.memory if stage is Stage.TRAIN else stage_spec(spec, stage).memory
    has = f"the {limit} of its limit" + (f" ({field})" if is_set else "") if limit else "its node has left"
    ways = [f"raise {field}" if is_set else f"set {field}" + ("" if limit else ", so that it gets a node with enough")]
    if stage is Stage.TRAIN:
        ways += less_memory(spec, plan=plan)
    remedy = ", or ".join(ways)
    # What publish gets can change, and the job goes on.
    where = "and apply the FineTuneJob again" if stage is Stage.PUBLISH else "in a new FineTuneJob"
    message = f"{stage.value} was killed for taking more memory than {has}. {remedy[0].upper()}{remedy[1:]}, {where}"
    return Failure(Reason.OUT_OF_MEMORY.value, message)


def deadline_exceeded(spec: FineTuneJobSpec, when: str) -> Failure:
    """Return the failure of a job that took longer than it may."""
    seconds = spec.scheduling.active_deadline_seconds
    message = f"not done after the {seconds} s of scheduling.activeDeadlineSeconds; ended {when.rstrip('.')}"
    return Failure(OperatorReason.DEADLINE_EXCEEDED, f"{message}. Raise it, in a new FineTuneJob, or train less")


def lacks_peers(failure: Failure, pods: Iterable[KubeObject], nodes: int) -> bool:
    """Return whether pods gave up waiting for others that were not there, as those had no node.

    Args:
        failure: The failure of their Job.
        pods: The Job's pods.
        nodes: How many run together.
    """
    if failure.reason != Reason.PEER_UNREACHABLE:
        return False
    ends = ((pod, end_of(pod)) for pod in pods)
    code = EXIT_CODES[Reason.PEER_UNREACHABLE]
    waited = {pod["metadata"]["labels"].get(_INDEX) for pod, end in ends if end is not None and end.code == code}
    return 0 < len(waited) < nodes


def _gave_up(end: End, stage: Stage, spec: FineTuneJobSpec) -> Failure:
    """Return the failure of a stage that has used up its restarts."""
    restarts = spec.scheduling.max_restarts
    tried = f"given up after {restarts} restart{'' if restarts == 1 else 's'} (scheduling.maxRestarts)"
    return Failure(_reason(end), f"{end.message or _unexplained(end, stage)}; {tried}")


def _without_pods(failed: KubeObject, stage: Stage) -> Failure:
    """Return the failure of a Job whose pods are gone, from the Job's own condition."""
    code = _code_in(failed)
    reason = (reason_of(code) if code is not None else None) or Reason.INTERNAL_ERROR
    words = str(failed.get("message") or "no reason is known").rstrip(".")
    return Failure(
        reason.value, f"the Job of {stage.value} failed: {words}. Its pods are gone, and with them their words"
    )


def _reason(end: End) -> str:
    return end.outcome.value if end.outcome is not None else Reason.INTERNAL_ERROR.value


def _code_in(failed: KubeObject) -> int | None:
    match = _EXIT_CODE.search(str(failed.get("message") or ""))
    return int(match[1]) if match else None


def _unexplained(end: End, stage: Stage) -> str:
    what = f" ({end.reason})" if end.reason not in ("", "Error") else ""
    return f"{stage.value} ended with exit code {end.code}{what} and left no reason; see: kubectl logs {end.pod}"
