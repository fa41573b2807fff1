"""What only publish reads or gets of a spec. If it changes before the job has succeeded, publish starts again."""

from __future__ import annotations

import hashlib
import json

from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.objects.finetunejob import CHANGEABLE_UNTIL_SUCCEEDED
from tunesmith_api.status import Phase
from tunesmith_api.work_folder import Stage
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.finetunejob.observed import Observed, stage_of
from tunesmith_operator.pods.facts import holds

PUBLISH_INPUTS = "tunesmith.dev/publish-inputs"
"""Annotation of a stage's Job: digest of the publish inputs when it was created."""

_DIGITS = 16


def publish_inputs(spec: FineTuneJobSpec) -> str:
    """Return a digest of what publish reads and of what its pod gets; a default that is written out is none of it."""
    found = spec.model_dump(mode="json", include=CHANGEABLE_UNTIL_SUCCEEDED, exclude_defaults=True)
    if (stages := found.pop("stages", None)) and stages.get("publish"):
        found["stages"] = stages["publish"]
    found["export"] = {**found.get("export", {}), "precisions": list(spec.precisions)}
    # Only the operator reads retain. Without it, an output may be empty, like one that is not there.
    found["output"] = {key: value for key, value in found.get("output", {}).items() if key != "retain"}
    text = json.dumps(found, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def must_publish_again(observed: Observed) -> bool:
    """Return whether publish was started with other inputs than the spec has now."""
    attempts = observed.attempts()
    if list(attempts)[-1:] != [Stage.PUBLISH.value]:
        return False
    used = _inputs_of(observed.job_of(Stage.PUBLISH, attempts[Stage.PUBLISH.value]))
    if used is None:
        # Its Job was deleted, so nothing says which inputs it had: any change of the spec counts.
        return bool(observed.status.get("observedGeneration") != observed.job["metadata"].get("generation", 1))
    return used != publish_inputs(observed.spec)


def ended_jobs(observed: Observed, stage: Stage, kind: str) -> int:
    """Return how many Jobs of a stage are Complete or Failed; of publish those with its present inputs."""
    now = publish_inputs(observed.spec)
    others = (now, None) if stage is Stage.PUBLISH else None
    found = (job for job in observed.jobs if stage_of(job) is stage and holds(job, kind))
    return sum(others is None or _inputs_of(job) in others for job in found)


def hint(observed: Observed) -> str:
    """Return why a change of the publish inputs does not help a failed job; empty if there is no such change."""
    attempts = observed.attempts()
    if observed.status.get("phase") != Phase.FAILED or not attempts:
        return ""
    stage, attempt = list(attempts.items())[-1]
    used = _inputs_of(observed.job_of(Stage(stage), attempt))
    if stage == Stage.PUBLISH or used is None or used == publish_inputs(observed.spec):
        return ""
    return (
        f". A change of evaluation, export, output or stages lets only a job go on that failed in publish; this one "
        f"failed in {stage}. Delete it and apply it again, or apply it under another name"
    )


def _inputs_of(job: KubeObject | None) -> str | None:
    return ((job or {"metadata": {}})["metadata"].get("annotations") or {}).get(PUBLISH_INPUTS)
