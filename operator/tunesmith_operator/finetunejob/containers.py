"""How the container of a stage ended, by its pod's status."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tunesmith_api.contract import reason_of, sentence_of
from tunesmith_api.failures import Reason
from tunesmith_operator.engine.reconciler import Object
from tunesmith_operator.finetunejob.pods import CONTAINER
from tunesmith_operator.pods.facts import condition, holds

_TAIL = 300


@dataclass(frozen=True)
class End:
    """How a container ended.

    Attributes:
        pod: Name of its pod.
        code: Its exit code.
        reason: What the kubelet says: `Completed`, `Error`, `OOMKilled`, ...
        outcome: The reason that the stage itself gives; None when it left none.
        message: What the stage says, and what to do; else the last words of its log.
        result: What the stage leaves for the status.
        time: When it ended, as Kubernetes writes it.
        disruption: Why the pod was taken away (eviction, preemption, ...); empty when it was not.
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
        """Whether it took more memory than it may."""
        return self.reason == "OOMKilled" or self.outcome is Reason.OUT_OF_MEMORY


def end_of(pod: Object) -> End | None:
    """Return how the stage's container in a pod ended, or None when it has not (or never began)."""
    terminated = container_state(pod).get("terminated")
    disruption = condition(pod, "DisruptionTarget")
    why = str(disruption.get("reason", "")) if holds(pod, "DisruptionTarget") else ""
    name = pod["metadata"]["name"]
    if terminated is None:
        if (pod.get("status") or {}).get("phase") != "Failed":
            return None
        # Evicted before the container could be asked how it ended.
        status = pod["status"]
        return End(name, -1, str(status.get("reason", "")), message=str(status.get("message", "")), disruption=why)
    code = int(terminated.get("exitCode", -1))
    said = _parsed(terminated.get("message"))
    message = sentence_of(said)
    if not said:
        message = " ".join(str(terminated.get("message") or "").split())[-_TAIL:]
    result = said.get("result")
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


def container_state(pod: Object) -> Object:
    """Return the state of the stage's container: waiting, running or terminated."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((item.get("state") or {} for item in statuses if item.get("name") == CONTAINER), {})


def result_of(pods: list[Object]) -> dict[str, Any]:
    """Return what the stage leaves for the status, by the pod of it that succeeded and says most."""
    ends = [end for pod in pods if (end := end_of(pod)) is not None and end.code == 0]
    return max((end.result for end in ends), key=len, default={})


def without_nulls(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON value without nulls, which no field of a status takes."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def _parsed(message: object) -> dict[str, Any]:
    """Return the JSON object that a stage wrote as its last words, empty when these are something else."""
    try:
        value = json.loads(str(message or ""))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
