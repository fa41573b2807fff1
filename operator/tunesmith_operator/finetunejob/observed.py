"""All that is decided upon: the job, its children, and what was read beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.work_folder import Stage
from tunesmith_operator.engine.labels import STAGE
from tunesmith_operator.engine.reconciler import ApplyError, Object
from tunesmith_operator.finetunejob.names import ATTEMPT

JOB_NAME = "batch.kubernetes.io/job-name"


@dataclass(frozen=True)
class Observed:
    """What is, at one moment.

    Attributes:
        job: The FineTuneJob.
        spec: Its spec.
        now: The time.
        claim_name: Name of the work volume's claim; None where the work is kept in an object store.
        claim: The claim; None when there is none (yet).
        jobs: The stages' Jobs.
        pods: Their pods.
        events: Newest events, oldest first, by the name of the pod or Job that they are about; read only where they
            can tell why nothing happens.
        errors: What the API server answered to the children, last time.
    """

    job: Object
    spec: FineTuneJobSpec
    now: datetime
    claim_name: str | None
    claim: Object | None = None
    jobs: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()
    events: Mapping[str, list[Object]] = field(default_factory=dict)
    errors: tuple[ApplyError, ...] = ()

    @property
    def name(self) -> str:
        """Name of the FineTuneJob."""
        return str(self.job["metadata"]["name"])

    @property
    def status(self) -> Object:
        """Its status, as it is stored; the CRD's default counts for none."""
        status = self.job.get("status") or {}
        return status if status.get("conditions") else {}

    @property
    def own_claim_name(self) -> str | None:
        """Name of the work volume's claim where it is made for this job."""
        return self.claim_name if self.spec.storage.claim_name is None else None

    def attempts(self) -> dict[str, int]:
        """Return how often each stage was started, by what the status says and what is there."""
        counts = {stage: int(count) for stage, count in (self.status.get("attempts") or {}).items() if count}
        for job in self.jobs:
            stage = stage_of(job)
            if stage is not None:
                counts[stage.value] = max(counts.get(stage.value, 0), attempt_of(job))
        return {stage.value: counts[stage.value] for stage in Stage if stage.value in counts}

    def job_of(self, stage: Stage, attempt: int) -> Object | None:
        """Return the Job of one attempt at a stage."""
        found = (job for job in self.jobs if stage_of(job) is stage and attempt_of(job) == attempt)
        return next(found, None)

    def pods_of(self, job: Object) -> list[Object]:
        """Return the pods of a Job, by the time of their creation."""
        name = job["metadata"]["name"]
        pods = [pod for pod in self.pods if (pod["metadata"].get("labels") or {}).get(JOB_NAME) == name]
        return sorted(pods, key=lambda pod: (pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"]))

    def living_pods(self) -> Iterator[Object]:
        """Yield the pods that may still write to the volume."""
        return (pod for pod in self.pods if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"))


def stage_of(child: Object) -> Stage | None:
    """Return the stage that a child belongs to."""
    value = (child["metadata"].get("labels") or {}).get(STAGE)
    return Stage(value) if value in set(Stage) else None


def attempt_of(child: Object) -> int:
    """Return the attempt that a child belongs to; 0 for what has none."""
    value = (child["metadata"].get("labels") or {}).get(ATTEMPT, "0")
    return int(value) if value.isdecimal() else 0


def time_of(text: str) -> datetime:
    """Return a time as Kubernetes writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def age(obj: Object, now: datetime) -> float:
    """Return the seconds since an object's creation."""
    created = obj["metadata"].get("creationTimestamp")
    return (now - time_of(created)).total_seconds() if created else 0.0
