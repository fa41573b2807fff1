"""The observed state of a FineTuneJob: the job, its children, and events about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.planner import ModelShape
from tunesmith_api.work_folder import Stage
from tunesmith_operator.engine.labels import STAGE
from tunesmith_operator.engine.reconciler import ApplyError, KubeObject, ObjectRef
from tunesmith_operator.finetunejob.names import ATTEMPT
from tunesmith_operator.pods.facts import holds, is_terminal

JOB_NAME = "batch.kubernetes.io/job-name"


@dataclass(frozen=True)
class Observed:
    """The observed state at one moment.

    Attributes:
        job: The FineTuneJob.
        spec: Its spec.
        now: The current time.
        claim_name: Name of the work volume's claim; None if the work is kept in an object store.
        claim: The claim; None if it does not exist (yet).
        jobs: The stages' Jobs.
        pods: Their pods.
        events: Recent events, oldest first, by the name of their pod or Job; read only if nothing happens for too long.
        errors: The children that the API server refused last time.
        shape: The sizes of the model, if they can be known before `prepare` and the job is not planned yet.
        is_reading_model: Whether they are just being read.
    """

    job: KubeObject
    spec: FineTuneJobSpec
    now: datetime
    claim_name: str | None
    claim: KubeObject | None = None
    jobs: tuple[KubeObject, ...] = ()
    pods: tuple[KubeObject, ...] = ()
    events: Mapping[str, list[KubeObject]] = field(default_factory=dict)
    errors: tuple[ApplyError, ...] = ()
    shape: ModelShape | None = None
    is_reading_model: bool = False

    @property
    def name(self) -> str:
        """Name of the FineTuneJob."""
        return str(self.job["metadata"]["name"])

    @property
    def status(self) -> KubeObject:
        """Its stored status; empty for the CRD's default."""
        status = self.job.get("status") or {}
        return status if status.get("conditions") else {}

    @property
    def own_claim_name(self) -> str | None:
        """Name of the work volume's claim if the operator creates it for this job; None otherwise."""
        return self.claim_name if self.spec.storage.claim_name is None else None

    def attempts(self) -> dict[str, int]:
        """Return how often each stage was started, from the status and the existing Jobs, in the order of stages."""
        counts = {stage: int(count) for stage, count in (self.status.get("attempts") or {}).items() if count}
        for job in self.jobs:
            stage = stage_of(job)
            if stage is not None:
                counts[stage.value] = max(counts.get(stage.value, 0), attempt_of(job))
        return {stage.value: counts[stage.value] for stage in Stage if stage.value in counts}

    def job_of(self, stage: Stage, attempt: int) -> KubeObject | None:
        """Return the Job of one attempt at a stage."""
        found = (job for job in self.jobs if stage_of(job) is stage and attempt_of(job) == attempt)
        return next(found, None)

    def pods_of(self, job: KubeObject) -> list[KubeObject]:
        """Return the pods of a Job, oldest first."""
        name = job["metadata"]["name"]
        pods = [pod for pod in self.pods if (pod["metadata"].get("labels") or {}).get(JOB_NAME) == name]
        return sorted(pods, key=lambda pod: (pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"]))

    def active_jobs(self) -> tuple[ObjectRef, ...]:
        """Return the Jobs that have not ended and are not being deleted."""
        active = (job for job in self.jobs if not has_ended(job) and "deletionTimestamp" not in job["metadata"])
        return tuple(ObjectRef("Job", job["metadata"]["name"]) for job in active)

    def living_pods(self) -> Iterator[KubeObject]:
        """Yield the pods that may still write to the volume."""
        return (pod for pod in self.pods if not is_terminal(pod))


def has_ended(job: KubeObject) -> bool:
    """Return whether a Job has completed or failed."""
    return holds(job, "Complete") or holds(job, "Failed")


def stage_of(child: KubeObject) -> Stage | None:
    """Return the stage that a child belongs to."""
    value = (child["metadata"].get("labels") or {}).get(STAGE)
    return Stage(value) if value in set(Stage) else None


def attempt_of(child: KubeObject) -> int:
    """Return the attempt that a child belongs to; 0 if it belongs to none."""
    value = (child["metadata"].get("labels") or {}).get(ATTEMPT, "0")
    return int(value) if value.isdecimal() else 0


def time_of(text: str) -> datetime:
    """Return a time as Kubernetes writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def age(obj: KubeObject, now: datetime) -> float:
    """Return the seconds since an object's creation."""
    created = obj["metadata"].get("creationTimestamp")
    return (now - time_of(created)).total_seconds() if created else 0.0
