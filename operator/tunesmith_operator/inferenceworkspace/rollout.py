"""The state of a rollout, from the Deployment's status and its pods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from tunesmith_api.status.reasons import OperatorReason
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.inferenceworkspace.deployment import template_of
from tunesmith_operator.inferenceworkspace.failures import PodProblem, most_severe, refusal_of
from tunesmith_operator.inferenceworkspace.metadata import TEMPLATE
from tunesmith_operator.pods.facts import condition, holds, is_terminal


class State(Enum):
    """Whether a rollout goes on, is done or has failed."""

    GOING = "going"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Rollout:
    """The state of a rollout.

    Attributes:
        state: Whether it goes on, is done or has failed.
        servers: Existing pods, old and new, without terminating ones.
        ready: Ready pods, old and new.
        new_ready: Ready pods of the desired template.
        problem: Why it is not done, if known.
    """

    state: State
    servers: int = 0
    ready: int = 0
    new_ready: int = 0
    problem: PodProblem | None = None

    @property
    def old_ready(self) -> int:
        """Ready pods of older templates."""
        return self.ready - self.new_ready


def rollout_state(
    desired: KubeObject, observed: KubeObject | None, pods: Sequence[KubeObject], events: Mapping[str, str]
) -> Rollout:
    """Return the state of the rollout to the desired Deployment.

    Args:
        desired: The desired Deployment.
        observed: The existing Deployment, if any.
        pods: Its pods, old and new.
        events: Newest warning about pods that cannot start, by the pod's name.
    """
    template, replicas = template_of(desired), desired["spec"]["replicas"]
    living = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp") and not is_terminal(pod)]
    new = [pod for pod in living if pod["metadata"]["labels"].get(TEMPLATE) == template]
    new_ready = _count_ready(new)
    counts = (len(living), _count_ready(living), new_ready)
    # Evicted pods still exist beside their replacements.
    problem = most_severe(new, events) if new else most_severe(filter(is_terminal, pods), events)
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
    # If one new server runs, the artifact is good and the problem is the others' nodes, which may go away.
    failed = problem is not None and problem.final and not new_ready
    return Rollout(State.FAILED if failed else State.GOING, *counts, problem)


def _count_ready(pods: Sequence[KubeObject]) -> int:
    return sum(holds(pod, "Ready") for pod in pods)


def _is_current(deployment: KubeObject, template: str, replicas: int) -> bool:
    """Return whether a Deployment is as desired and its status is up to date."""
    spec, status = deployment["spec"], deployment.get("status") or {}
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return seen and template_of(deployment) == template and spec.get("replicas") == replicas


def _is_overdue(deployment: KubeObject) -> bool:
    return bool(condition(deployment, "Progressing").get("reason") == "ProgressDeadlineExceeded")
