"""The status of a workspace with servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunesmith_api import status as state
from tunesmith_api.status.reasons import OperatorReason
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.inferenceworkspace.model import Choice, Target, Wait
from tunesmith_operator.inferenceworkspace.rollout import Rollout, State
from tunesmith_operator.pods.facts import holds

Status = dict[str, Any]


def report(status: Status, choice: Choice, target: Target, rollout: Rollout, replicas: int, endpoint: str) -> Status:
    """Return the status.

    Args:
        status: The status so far, with the servers counted.
        choice: The artifact to serve, and whether the spec asks for another one that is not available.
        target: The artifact of `choice`.
        rollout: The state of the rollout.
        replicas: Servers wanted.
        endpoint: Base URL for the clients of its task.
    """
    if rollout.state is State.FAILED:
        return _failed(status, target, rollout)
    if rollout.state is State.GOING:
        return _going(status, target, rollout, replicas)
    served = state.serving(status, endpoint, target.identity, target.uri, replicas)
    if choice.wait is None:
        return served
    served_on = f"Revision {target.revision} is served on"
    told = state.blocked if choice.wait.final else state.held
    return told(served, choice.wait.reason, f"{choice.wait.message}. {served_on}")


def waits_for_draft(status: Status, wait: Wait, pods: Sequence[KubeObject]) -> Status:
    """Return the status of a workspace whose draft model is not there: its servers stay as they are.

    Args:
        status: The status so far.
        wait: Why the draft model is not there.
        pods: The workspace's pods.
    """
    ready = sum(holds(pod, "Ready") for pod in pods)
    status = {**status, "replicas": len(pods), "readyReplicas": ready}
    if not ready:
        return (state.failed if wait.final else state.waiting)(status, wait.reason, wait.message)
    told = state.blocked if wait.final else state.held
    return told(status, wait.reason, f"{wait.message}. What was there before is served on")


def _failed(status: Status, target: Target, rollout: Rollout) -> Status:
    problem = rollout.problem
    assert problem is not None  # noqa: S101 - a failed rollout always has one
    if rollout.old_ready:
        what = _served_on(status, target)
        words = f"The new servers of revision {target.revision} do not start ({problem.reason}): {problem}. {what}"
        return state.blocked(status, OperatorReason.ROLLOUT_BLOCKED, words)
    if rollout.ready:
        return state.blocked(status, problem.reason, f"{problem}. {rollout.ready} servers are ready")
    return state.failed(status, problem.reason, str(problem))


def _going(status: Status, target: Target, rollout: Rollout, replicas: int) -> Status:
    problem = rollout.problem
    count = f"{rollout.new_ready} of {replicas} servers of revision {target.revision} are ready"
    if problem is not None:
        return state.rolling_out(status, problem.reason, f"{count}. {problem}")
    return state.rolling_out(status, OperatorReason.ROLLING_OUT, count)


def _served_on(status: Status, target: Target) -> str:
    old = status.get("revision")
    which = f"Revision {old}" if old and old != target.revision else "What was there before"
    return f"{which} is served on"
