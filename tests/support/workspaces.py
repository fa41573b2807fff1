"""Objects around an InferenceWorkspace, as an API server, a Deployment controller and a kubelet would have them."""

import asyncio
import copy
import json
from typing import Any

from tunesmith_api.objects import InferenceWorkspaceSpec
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import Context, Decision
from tunesmith_operator.inferenceworkspace.adapters.choose import choose_adapters
from tunesmith_operator.inferenceworkspace.adapters.mounts import wants_adapters
from tunesmith_operator.inferenceworkspace.decide import decide
from tunesmith_operator.inferenceworkspace.model import Answer, Observed, Target
from tunesmith_operator.inferenceworkspace.source import choose, choose_draft

KubeObject = dict[str, Any]

UID = "11111111-2222-3333-4444-555555555555"
SETTINGS = OperatorSettings()
DIGEST = {letter: "sha256:" + letter * 64 for letter in "abcdef"}


def a_workspace(status: KubeObject | None = None, generation: int = 1, **spec: Any) -> KubeObject:
    """An InferenceWorkspace with defaults as an API server fills them in; `spec` replaces whole sections."""
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "InferenceWorkspace",
        "metadata": {"name": "faq", "namespace": "team", "uid": UID, "generation": generation},
        "spec": {"model": {"fineTuneJob": "job-a"}, "runtime": {}, "replicas": 1, **spec},
        "status": status if status is not None else {"observedGeneration": -1},
    }


def a_job(
    name: str = "job-a",
    digest: str | None = None,
    *,
    labels: dict[str, str] | None = None,
    completed: str = "2026-01-01T00:00:00Z",
    failed: str = "",
    uri: str = "",
    base: str = "",
    **metadata: Any,
) -> KubeObject:
    """A FineTuneJob: completed where it has a digest, failed where it has a reason for that, else training.

    With the digest of a base its artifact is an adapter, beside its base in an object store.
    """
    status: KubeObject = {
        "observedGeneration": 1,
        "phase": "Training",
        "conditions": _conditions("Unknown", "Training"),
    }
    if digest:
        status |= {
            "phase": "Succeeded",
            "conditions": _conditions("True", "Completed"),
            "completionTime": completed,
            "artifact": {"uri": uri or f"pvc://{name}-work/{name}/artifact", "digest": digest},
        }
        if base:
            uri = uri or f"s3://bucket/{name}/artifact"
            status["artifact"] = {"uri": uri, "digest": digest, "base": {"uri": "s3://bucket/base", "digest": base}}
    elif failed:
        status |= {"phase": "Failed", "conditions": _conditions("False", failed)}
    about = {"name": name, "namespace": "team", "uid": f"uid-{name}", "labels": labels or {}, **metadata}
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": about,
        "spec": {},
        "status": status,
    }


def _conditions(ready: str, reason: str) -> list[KubeObject]:
    others = {"Reconciling": ready == "Unknown", "Stalled": ready == "False"}
    values = {"Ready": ready, **{kind: str(value) for kind, value in others.items()}}
    return [{"type": kind, "status": value, "reason": reason, "message": reason} for kind, value in values.items()]


def child(decision: Decision, kind: str) -> KubeObject | None:
    """The child of a kind that a decision keeps, or None."""
    return next((obj for obj in decision.apply if obj["kind"] == kind), None)


def a_deployment(
    decided: KubeObject,
    *,
    updated: int,
    available: int,
    total: int | None = None,
    conditions: list[KubeObject] | None = None,
) -> KubeObject:
    """A Deployment as it is after a decision was applied and its controller has come so far."""
    obj = copy.deepcopy(decided)
    obj["metadata"]["generation"] = 3
    obj["status"] = {
        "observedGeneration": 3,
        "replicas": updated if total is None else total,
        "updatedReplicas": updated,
        "readyReplicas": available,
        "availableReplicas": available,
        "conditions": conditions or [],
    }
    return obj


OVERDUE = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]


def a_pod(deployment: KubeObject, name: str = "faq-1", *, ready: bool = False, **facts: Any) -> KubeObject:
    """A pod of a Deployment. `facts` are parts of its status; `server` and `fetch` are its containers' statuses."""
    status: KubeObject = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": str(ready)}],
        "containerStatuses": [{"name": "server", "ready": ready, "restartCount": 0, "state": {"running": {}}}],
    }
    if "server" in facts:
        status["containerStatuses"] = [{"name": "server", "ready": False, "restartCount": 0, **facts.pop("server")}]
    for init in ("fetch", "fetch-draft"):
        if init in facts:
            status["initContainerStatuses"] = [{"name": init, "ready": False, "restartCount": 0, **facts.pop(init)}]
    template = deployment["spec"]["template"]
    metadata = {"name": name, "namespace": "team", "labels": dict(template["metadata"]["labels"])}
    metadata["annotations"] = facts.pop("annotations", {})
    if facts.pop("ending", False):
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"kind": "Pod", "metadata": metadata, "spec": template["spec"], "status": {**status, **facts}}


def ended(code: int, message: str = "", reason: str = "Error", restarts: int = 0) -> KubeObject:
    """A container that has ended for the `restarts + 1`th time and waits for its next start."""
    last = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    return {"restartCount": restarts, "state": waiting, "lastState": last}


def waiting(reason: str, message: str = "") -> KubeObject:
    """A container that cannot be started."""
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def decided(workspace: KubeObject, *jobs: KubeObject, **observed: Any) -> Decision:
    """What is decided of what is observed."""
    spec = InferenceWorkspaceSpec.model_validate(workspace["spec"])
    last = Target.from_status(workspace.get("status") or {})
    choice = choose(spec.model, jobs, last, spec.runtime)
    if (draft := spec.runtime.draft_model) is not None:
        last_draft = Target.from_status(workspace.get("status") or {}, "draftModel")
        observed["draft"] = choose_draft(draft, jobs, last_draft)
    if (target := choice.target) is not None and spec.replicas and wants_adapters(spec, target):
        observed["adapters"] = choose_adapters(workspace["metadata"]["name"], spec, target, jobs)
    return decide(Observed(workspace, spec, choice, **observed), SETTINGS)


def an_answer(decision: Decision, **states: str) -> Answer:
    """What a server says that follows the list of a decision: its adapters' states, `Failed: why` with a message."""
    (content,) = list_of(decision).values()
    parted = {name.replace("_", "-"): text.partition(": ") for name, text in states.items()}
    return Answer(content["version"], {name: (state, why) for name, (state, _, why) in parted.items()})


def list_of(decision: Decision) -> dict[str, KubeObject]:
    """The lists of adapters in a decision's ConfigMap, by key."""
    config_map = child(decision, "ConfigMap")
    assert config_map is not None
    return {key: json.loads(text) for key, text in config_map["data"].items()}


def adapters_of(status: KubeObject) -> dict[str, str]:
    """The states of the adapters in a status, with their messages."""
    told = {item["name"]: (item["state"], item.get("message")) for item in status["adapters"]}
    return {name: f"{state}: {message}" if message else state for name, (state, message) in told.items()}


def served(*jobs: KubeObject, **spec: Any) -> tuple[KubeObject, KubeObject]:
    """A workspace that serves its first artifact, and its Deployment."""
    workspace = a_workspace(**spec)
    first = decided(workspace, *jobs)
    deployment = child(first, "Deployment")
    assert deployment is not None
    count = deployment["spec"]["replicas"]
    there = a_deployment(deployment, updated=count, available=count)
    pods = tuple(a_pod(there, f"old-{number}", ready=True) for number in range(count))
    workspace = {**workspace, "status": first.status}
    second = decided(workspace, *jobs, deployment=there, pods=pods)
    return {**workspace, "status": second.status}, there


def conditions_of(status: KubeObject) -> tuple[str, str, str]:
    """The values of Ready, Reconciling and Stalled."""
    values = {item["type"]: item["status"] for item in status["conditions"]}
    return values["Ready"], values["Reconciling"], values["Stalled"]


def reason_of(status: KubeObject) -> str:
    """The reason of Ready."""
    return next(item["reason"] for item in status["conditions"] if item["type"] == "Ready")


def message_of(status: KubeObject) -> str:
    """The message of Ready."""
    return next(item["message"] for item in status["conditions"] if item["type"] == "Ready")


class MemoryStore:
    """A store over a few objects."""

    def __init__(self, *objects: KubeObject) -> None:
        self.objects = objects

    def get(self, kind: str, namespace: str, name: str) -> KubeObject | None:
        """An object by its name."""
        found = (obj for obj in self.all(kind, namespace) if obj["metadata"]["name"] == name)
        return next(found, None)

    def owned(self, kind: str, owner_uid: str) -> list[KubeObject]:
        """Objects by their owner's label."""
        label = "tunesmith.dev/owner-uid"
        return [
            obj
            for obj in self.objects
            if obj["kind"] == kind and (obj["metadata"].get("labels") or {}).get(label) == owner_uid
        ]

    def all(self, kind: str, namespace: str) -> list[KubeObject]:
        """Objects of a kind."""
        return [obj for obj in self.objects if obj["kind"] == kind and obj["metadata"]["namespace"] == namespace]


class MemoryApi:
    """Reads of what is not watched."""

    def __init__(self, *objects: KubeObject, events: dict[str, list[KubeObject]] | None = None) -> None:
        self.objects = {(obj["kind"], obj["metadata"]["name"]): obj for obj in objects}
        self.events = events or {}
        self.asked: list[str] = []

    async def read(self, kind: str, namespace: str, name: str) -> KubeObject | None:
        """An object, or None."""
        self.asked.append(f"{kind}/{name}")
        return self.objects.get((kind, name))

    async def own_config_map(self, namespace: str, name: str) -> KubeObject | None:
        """A ConfigMap, or None."""
        return await self.read("ConfigMap", namespace, name)

    async def pod_events(self, namespace: str, pod: str) -> list[KubeObject]:
        """A pod's events."""
        self.asked.append(f"events/{pod}")
        return self.events.get(pod, [])


def reconciled(reconciler: Any, workspace: KubeObject, store: MemoryStore, api: MemoryApi, **context: Any) -> Decision:
    """What a reconciler decides."""
    decision: Decision = asyncio.run(reconciler.reconcile(workspace, Context(store, api, **context)))
    return decision
