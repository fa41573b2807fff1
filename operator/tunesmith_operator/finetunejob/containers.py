"""How the container of a stage ended, from its pod's status."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tunesmith_api.contract import reason_of, sentence_of
from tunesmith_api.failures import Reason
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.finetunejob.names import CONTAINER
from tunesmith_operator.pods.facts import condition, holds

_TAIL = 300


@dataclass(frozen=True)
class End:
    """How a container ended.

    Attributes:
        pod: Name of its pod.
        code: Its exit code.
        reason: The kubelet's reason: `Completed`, `Error`, `OOMKilled`, ...
        outcome: The stage's own reason; None if it gave none.
        message: The stage's message and remedy; else the end of its log.
        result: The stage's result, for the status.
        time: When it ended, as Kubernetes writes it.
        disruption: Why the pod was evicted, preempted or deleted; empty if it was not.
    """

    pod: str
    code: int
    reason: str
    outcome: Reason | None = None
    message: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    time: str = ""
    disruption: str = ""

    @property
    def out_of_memory(self) -> bool:
        """Whether it exceeded its memory."""
        return self.reason == "OOMKilled" or self.outcome is Reason.OUT_OF_MEMORY


def end_of(pod: KubeObject) -> End | None:
    """Return how the stage's container in a pod ended; None if it has not ended or never started."""
    terminated = container_state(pod).get("terminated")
    disruption = condition(pod, "DisruptionTarget")
    why = str(disruption.get("reason", "")) if holds(pod, "DisruptionTarget") else ""
    name = pod["metadata"]["name"]
    if terminated is None:
        if (pod.get("status") or {}).get("phase") != "Failed":
            return None
        # Evicted without a container status.
        status = pod["status"]
        return End(name, -1, str(status.get("reason", "")), message=str(status.get("message", "")), disruption=why)
    code = int(terminated.get("exitCode", -1))
    outcome = _parsed(terminated.get("message"))
    message = sentence_of(outcome)
    if not outcome:
        message = " ".join(str(terminated.get("message") or "").split())[-_TAIL:]
    result = outcome.get("result")
    return End(
        pod=name,
        code=code,
        reason=str(terminated.get("reason", "")),
        outcome=reason_of(code),
        message=message,
        result=result if isinstance(result, dict) else {},
        time=str(terminated.get("finishedAt", "")),
        disruption=why,
    )


def container_state(pod: KubeObject) -> KubeObject:
    """Return the state of the stage's container: waiting, running or terminated."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((item.get("state") or {} for item in statuses if item.get("name") == CONTAINER), {})


def result_of(pods: list[KubeObject]) -> dict[str, Any]:
    """Return the stage's result for the status: the longest one of its pods that succeeded."""
    ends = [end for pod in pods if (end := end_of(pod)) is not None and end.code == 0]
    return max((end.result for end in ends), key=len, default={})


def without_nulls(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON value without nulls, which no field of a status accepts."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def _parsed(message: object) -> dict[str, Any]:
    """Return the JSON object in a termination message; empty for any other text."""
    try:
        value = json.loads(str(message or ""))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
