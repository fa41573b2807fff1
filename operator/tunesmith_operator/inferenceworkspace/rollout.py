"""How far a rollout is, from the Deployment's status and its pods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from tunesmith_api.status.reasons import OperatorReason
from tunesmith_operator.engine.reconciler import Object
from tunesmith_operator.inferenceworkspace.deployment import template_of
from tunesmith_operator.inferenceworkspace.failures import PodProblem, most_severe, refusal_of
from tunesmith_operator.inferenceworkspace.metadata import TEMPLATE


class State(Enum):
    """How a rollout stands."""

    GOING = "going"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Rollout:
    """How far a rollout is.

    Attributes:
        state: How it stands.
        servers: Pods that there are, old and new, those that end aside.
        ready: Pods that are ready, old and new.
        new_ready: Those of them that are as the Deployment is to be.
        problem: What keeps it from being done, if anything is known.
    """

    state: State
    servers: int = 0
    ready: int = 0
    new_ready: int = 0
    problem: PodProblem | None = None

    @property
    def old_ready(self) -> int:
        """Ready pods from before."""
        return self.ready - self.new_ready


def rollout_state(
    desired: Object, observed: Object | None, pods: Sequence[Object], events: Mapping[str, str]
) -> Rollout:
    """Return how far the Deployment is on its way to what is desired.

    Args:
        desired: The Deployment as it is to be.
        observed: The Deployment as it is, if it is there.
        pods: Its pods, old and new.
        events: What keeps a pod from starting, by its name, where only events tell.
    """
    template, replicas = template_of(desired), desired["spec"]["replicas"]
    living = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp") and not _has_ended(pod)]
    new = [pod for pod in living if pod["metadata"]["labels"].get(TEMPLATE) == template]
    new_ready = sum(map(is_ready, new))
    counts = (len(living), sum(map(is_ready, living)), new_ready)
    # Evicted pods stay as they are, beside those that took their place.
    problem = most_severe(new, events) if new else most_severe(filter(_has_ended, pods), events)
    is_current = observed is not None and _is_current(observed, template, replicas)
    if observed is not None and is_current:
        status = observed.get("status") or {}
        as_wanted = all(
            status.get(name, 0) == replicas for name in ("replicas", "updatedReplicas", "availableReplicas")
        )
        if as_wanted and len(living) == len(new):
            return Rollout(State.DONE, *counts)
        problem = problem or refusal_of(observed)
        if _is_overdue(observed):
            seconds = observed["spec"].get("progressDeadlineSeconds")
            problem = problem or PodProblem(
                OperatorReason.DEADLINE_EXCEEDED,
                f"No server became ready in {seconds} s",
                "See the pods: kubectl describe pods",
            )
            return Rollout(State.FAILED, *counts, problem)
    # Where one new server runs, the artifact is sound and it is the others' nodes that are not: that may pass.
    failed = problem is not None and problem.final and not new_ready
    return Rollout(State.FAILED if failed else State.GOING, *counts, problem)


def is_ready(pod: Object) -> bool:
    """Return whether a pod is ready."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _has_ended(pod: Object) -> bool:
    """Return whether a pod has ended for good and holds no place any more."""
    return (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")


def _is_current(deployment: Object, template: str, replicas: int) -> bool:
    """Return whether a Deployment is as desired, and its status speaks of it as it is."""
    spec, status = deployment["spec"], deployment.get("status") or {}
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return seen and template_of(deployment) == template and spec.get("replicas") == replicas


def _is_overdue(deployment: Object) -> bool:
    conditions = (deployment.get("status") or {}).get("conditions") or []
    return any(
        item["type"] == "Progressing" and item.get("reason") == "ProgressDeadlineExceeded" for item in conditions
    )
