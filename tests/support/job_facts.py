"""A FineTuneJob and its children as a control plane and a kubelet would have made them, for tables of `decide`."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.planner import ModelShape
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import Decision, KubeObject
from tunesmith_operator.finetunejob.names import work_folder
from tunesmith_operator.finetunejob.observed import JOB_NAME, Observed

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
UID = "0123456789abcdef"
SETTINGS = OperatorSettings()
SPEC = {"model": {"uri": "hf://a/b"}, "dataset": {"sources": [{"uri": "s3://bucket/rows.jsonl"}]}}
RESULT = {
    "artifact": {"uri": f"/work/{work_folder('tiny', UID)}/artifact", "digest": "sha256:ab"},
    "metrics": {"before": {"evalLoss": 7.0, "exactMatch": None}, "after": {"evalLoss": 0.5}},
}
TRAINED = {
    "resolved": {"totalSteps": {"value": 12, "reason": "maxSteps"}},
    "progress": {"stage": "train", "step": 12, "totalSteps": 12, "loss": 0.5},
}


def stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


class World:
    """What there is of one job. It takes decisions the way the engine does, and lets time pass.

    Attributes:
        job: The FineTuneJob.
        jobs: The stages' Jobs, by name.
        pods: Their pods, by name.
        claims: The claims of the job's own, by name.
        services: Its Services, by name.
        deleted: Whether the FineTuneJob was deleted.
        now: The time.
    """

    def __init__(self, spec: KubeObject | None = None, name: str = "tiny") -> None:
        self.job: KubeObject = {
            "apiVersion": "tunesmith.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": name, "namespace": "team", "uid": UID, "generation": 1},
            "spec": {**SPEC, **(spec or {})},
            "status": {"observedGeneration": -1},
        }
        self.jobs: dict[str, KubeObject] = {}
        self.pods: dict[str, KubeObject] = {}
        self.claims: dict[str, KubeObject] = {}
        self.services: dict[str, KubeObject] = {}
        self.events: dict[str, list[KubeObject]] = {}
        self.errors: tuple[Any, ...] = ()
        self.given_claim: KubeObject | None = None
        self.shape: ModelShape | None = None
        self.is_reading_model = False
        self.deleted = False
        self.now = NOW

    @property
    def status(self) -> KubeObject:
        return self.job["status"]

    @property
    def reason(self) -> str:
        return self.condition("Ready")["reason"]

    @property
    def message(self) -> str:
        return self.condition("Ready")["message"]

    def condition(self, kind: str) -> KubeObject:
        return next(item for item in self.status["conditions"] if item["type"] == kind)

    def observed(self) -> Observed:
        spec = FineTuneJobSpec.model_validate(self.job["spec"])
        own = spec.storage.claim_name is None
        name = spec.storage.claim_name or (None if spec.storage.uri else f"{self.job['metadata']['name']}-work")
        return Observed(
            job=copy.deepcopy(self.job),
            spec=spec,
            now=self.now,
            claim_name=name,
            claim=copy.deepcopy(self.claims.get(name or "") if own else self.given_claim),
            jobs=tuple(copy.deepcopy(job) for job in self.jobs.values()),
            pods=tuple(copy.deepcopy(pod) for pod in self.pods.values()),
            events=self.events,
            errors=self.errors,
            shape=self.shape,
            is_reading_model=self.is_reading_model,
        )

    def take(self, decision: Decision) -> bool:
        """Carry a decision out, and return whether it changed anything."""
        before = self._all()
        if decision.status is not None:
            progress = self.status.get("progress")
            self.job["status"] = {**({"progress": progress} if progress else {}), **copy.deepcopy(decision.status)}
        for child in (*decision.apply, *decision.create):
            self._make(copy.deepcopy(child), keep=child in decision.apply)
        for ref in decision.delete:
            if ref.kind == "FineTuneJob":
                self.deleted = True
            elif self.jobs.pop(ref.name, None):
                for pod in self.pods_of(ref.name):
                    if pod["status"]["phase"] in ("Pending", "Running"):
                        pod["metadata"]["deletionTimestamp"] = stamp(self.now)
                    else:
                        del self.pods[pod["metadata"]["name"]]
        return self._all() != before

    def _all(self) -> str:
        parts = (self.job, self.jobs, self.pods, self.claims, self.services, self.deleted)
        return json.dumps(parts, sort_keys=True)

    def _make(self, child: KubeObject, *, keep: bool) -> None:
        place = {"Job": self.jobs, "PersistentVolumeClaim": self.claims, "Service": self.services}[child["kind"]]
        name = child["metadata"]["name"]
        assert child["metadata"]["namespace"] == "team"
        if name in place and not keep:
            return
        if name not in place:
            child["metadata"] |= {"uid": f"uid-of-{name}", "creationTimestamp": stamp(self.now)}
            place[name] = child
            return
        kept = place[name]["metadata"]
        child["metadata"] |= {key: kept[key] for key in ("uid", "creationTimestamp")}
        place[name] = child

    def pods_of(self, job: str) -> list[KubeObject]:
        return [pod for pod in self.pods.values() if pod["metadata"]["labels"][JOB_NAME] == job]

    # What others do.

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def pod(self, job: str, index: int = 0, **status: Any) -> KubeObject:
        """Make a pod of a Job, as the Job controller does; `status` is what the kubelet says of it."""
        labels = {**self.jobs[job]["spec"]["template"]["metadata"]["labels"], JOB_NAME: job}
        name = f"{job}-{index}-{len(self.pods)}"
        self.pods[name] = {
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels, "creationTimestamp": stamp(self.now)},
            "spec": copy.deepcopy(self.jobs[job]["spec"]["template"]["spec"]),
            "status": {"phase": "Pending", **status},
        }
        return self.pods[name]

    def waiting(self, job: str, reason: str, message: str = "") -> KubeObject:
        """Make a pod whose container pending."""
        return self.pod(job, **scheduled(), **container({"waiting": {"reason": reason, "message": message}}))

    def running(self, job: str, index: int = 0) -> KubeObject:
        return self.pod(job, index, phase="Running", **container({"running": {"startedAt": stamp(self.now)}}))

    def ended(
        self,
        job: str,
        code: int = 0,
        *,
        words: KubeObject | str = "",
        reason: str = "",
        conditions: Iterable[KubeObject] = (),
    ) -> KubeObject:
        """Make a pod whose container has ended."""
        message = words if isinstance(words, str) else json.dumps(words)
        terminated = {
            "exitCode": code,
            "reason": reason or ("Error" if code else "Completed"),
            "message": message,
            "finishedAt": stamp(self.now),
        }
        status = container({"terminated": terminated})
        return self.pod(job, phase="Failed" if code else "Succeeded", conditions=list(conditions), **status)

    def complete(self, job: str, result: KubeObject | None = None) -> None:
        """Let a Job complete, with a pod that leaves a result."""
        words = {"reason": "Completed", "message": "", "remedy": "", "result": result or {}}
        self.ended(job, words=words)
        self.jobs[job]["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}

    def fail(self, job: str, reason: str = "PodFailurePolicy", message: str = "") -> None:
        """Let a Job fail; its pods are as they are."""
        failed = {"type": "Failed", "status": "True", "reason": reason, "message": message}
        self.jobs[job]["status"] = {"conditions": [failed]}

    def remove_pods(self) -> None:
        """Let the pods that are being deleted go."""
        self.pods = {n: pod for n, pod in self.pods.items() if "deletionTimestamp" not in pod["metadata"]}

    def change_spec(self, **fields: Any) -> None:
        self.job["spec"] = {**self.job["spec"], **fields}
        self.job["metadata"]["generation"] += 1


def container(state: KubeObject) -> KubeObject:
    return {"containerStatuses": [{"name": "trainer", "state": state}]}


def scheduled(value: str = "True", reason: str = "", message: str = "") -> KubeObject:
    return {"conditions": [{"type": "PodScheduled", "status": value, "reason": reason, "message": message}]}


def later(observed: Observed, seconds: float) -> Observed:
    """Return the same facts at a later time."""
    return replace(observed, now=observed.now + timedelta(seconds=seconds))
