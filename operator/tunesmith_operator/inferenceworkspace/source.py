"""Chooses the artifact that a workspace serves: of a job, of the newest of several, or at a URI."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tunesmith_api.artifact import NO_ONNX
from tunesmith_api.objects.served_adapters import ADAPTER_NAME_ANNOTATION
from tunesmith_api.objects.served_model import ServedModelSpec
from tunesmith_api.objects.served_runtime import DraftModelSpec
from tunesmith_api.objects.storage import OBJECT_STORE
from tunesmith_api.spec.runtime import RuntimeSpec, cannot_serve, lacks_batch_precision, servable
from tunesmith_api.status.reasons import OperatorReason
from tunesmith_api.tasks import DEFAULT_TASK, TASKS
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.inferenceworkspace.model import Choice, OwnAdapter, Target, Wait
from tunesmith_operator.pods.facts import condition

NO_PATH = (
    "which no pod can reach; in a cluster an artifact is on a volume (write pvc://CLAIM/PATH) or in an object store "
    "(s3://BUCKET/PATH, abfs://, gs://)"
)
"""Follows the URI of an artifact."""

_REACHABLE = re.compile(rf"^pvc://|{OBJECT_STORE}")

_DEFAULT = RuntimeSpec()

MODEL, DRAFT_MODEL = "spec.model", "spec.runtime.draftModel"


def choose(
    model: ServedModelSpec,
    jobs: Iterable[KubeObject],
    last: Target | None,
    runtime: RuntimeSpec = _DEFAULT,
    field: str = MODEL,
) -> Choice:
    """Return the artifact to serve.

    An artifact that was served stays served when its job is deleted: jobs may be removed some time after they ended,
    and their artifact stays.

    Args:
        model: The spec's model.
        jobs: FineTuneJobs of the namespace; those that the spec does not refer to are ignored.
        last: The previous choice.
        runtime: How it is to be served: by which execution provider, in which precisions.
        field: Where the spec names it.
    """
    if model.uri is not None:
        choice = Choice(Target(model.uri), f"{field.removeprefix('spec.')}.uri")
    elif model.fine_tune_job is not None:
        job = {name_of(job): job for job in jobs if not is_going(job)}.get(model.fine_tune_job)
        choice = _named(model.fine_tune_job, job, last, runtime, field)
    else:
        assert model.fine_tune_job_selector is not None  # noqa: S101 - a rule of the API
        choice = _followed(dict(model.fine_tune_job_selector.match_labels), list(jobs), last, runtime)
    if choice.target is not None and not _REACHABLE.match(choice.target.uri):
        return Choice(last, wait=Wait("InvalidSpec", _no_path(choice.target, field), final=True))
    return choice


def choose_draft(model: DraftModelSpec, jobs: Iterable[KubeObject], last: Target | None) -> Choice:
    """Return the artifact of a draft model. It is that of a whole model: rows have adapters of the served one only.

    Args:
        model: The spec's draft model.
        jobs: FineTuneJobs of the namespace.
        last: The previous choice.
    """
    choice = choose(model.as_model(), jobs, last, field=DRAFT_MODEL)
    if choice.target is not None and choice.target.adapter is not None:
        message = (
            f"FineTuneJob {choice.target.job} publishes an adapter, and a draft model is a whole one; train it with "
            f"export: {{adapterOnly: false}}, or name its base in {DRAFT_MODEL}.uri"
        )
        return Choice(None, wait=Wait(OperatorReason.INVALID_ARTIFACT, message, final=True))
    if choice.wait is not None:
        return replace(choice, wait=replace(choice.wait, message=f"The draft model: {choice.wait.message}"))
    return choice


def matches(labels: Mapping[str, str], job: KubeObject) -> bool:
    """Return whether a job has all of some labels."""
    has = job["metadata"].get("labels") or {}
    return all(has.get(key) == value for key, value in labels.items())


def name_of(job: KubeObject) -> str:
    """Return an object's name."""
    return str(job["metadata"]["name"])


def has_succeeded(job: KubeObject) -> bool:
    """Return whether a job has an artifact, gates included, and is not being deleted."""
    has_artifact = bool(((job.get("status") or {}).get("artifact") or {}).get("uri"))
    return condition(job, "Ready").get("status") == "True" and has_artifact and not is_going(job)


def is_going(job: KubeObject) -> bool:
    """Return whether a job is being deleted."""
    return bool(job["metadata"].get("deletionTimestamp"))


def base_of(job: KubeObject) -> Mapping[str, Any] | None:
    """Return the base model of a job's adapter as its status has it; None if its artifact is not an adapter."""
    base: Mapping[str, Any] = ((job.get("status") or {}).get("artifact") or {}).get("base") or {}
    return base if base.get("uri") else None


def adapter_name(job: KubeObject) -> str:
    """Return the name under which a job's adapter is served where the workspace gives it none."""
    return str((job["metadata"].get("annotations") or {}).get(ADAPTER_NAME_ANNOTATION) or name_of(job))


def phase_of(job: KubeObject) -> str:
    """Return a job's phase."""
    return str((job.get("status") or {}).get("phase") or "Pending")


def _named(name: str, job: KubeObject | None, last: Target | None, runtime: RuntimeSpec, field: str) -> Choice:
    if job is None:
        if last is not None and last.job == name:
            return Choice(last, f"FineTuneJob {name}, which is no longer there")
        return Choice(
            last,
            wait=Wait(
                OperatorReason.WAITING_FOR_JOB,
                f"There is no FineTuneJob {name} in this namespace; apply it, or correct {field}.fineTuneJob",
            ),
        )
    if (problem := _cannot_serve(job, runtime)) is not None:
        what = f"The artifact of FineTuneJob {name} {problem}"
        return Choice(last, wait=Wait(OperatorReason.INVALID_ARTIFACT, what, final=True))
    if (target := _result(job)) is not None:
        return Choice(target, f"FineTuneJob {name}")
    stalled = condition(job, "Stalled")
    if stalled.get("status") == "True":
        return Choice(
            last,
            wait=Wait(
                OperatorReason.JOB_FAILED,
                f"FineTuneJob {name} has failed ({stalled.get('reason')}): {stalled.get('message')}. If it "
                "failed in publish, a change of its evaluation, export, output or stages lets it go on. Otherwise "
                f"correct it, apply it under another name and write that name in {field}.fineTuneJob; or delete it "
                "and apply it again",
                final=True,
            ),
        )
    return Choice(
        last,
        wait=Wait(
            OperatorReason.WAITING_FOR_JOB, f"FineTuneJob {name} is {phase_of(job)}; it is served when it is done"
        ),
    )


def _followed(labels: dict[str, str], jobs: list[KubeObject], last: Target | None, runtime: RuntimeSpec) -> Choice:
    text = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
    labelled = [job for job in jobs if matches(labels, job)]
    found = [job for job in labelled if _cannot_serve(job, runtime) is None]
    results = {name_of(job): target for job in found if (target := _result(job, labels)) is not None}
    newest = max(results.values(), key=lambda item: (item.completed or "", item.job or ""), default=None)
    # One that was served and has not succeeded is another job of the same name.
    gone = last is not None and last.job is not None and last.job not in {name_of(j) for j in jobs if has_succeeded(j)}
    # Deleting the newest job does not bring an older one back; removing its label does.
    if gone and last is not None and last.labels == labels:
        if newest is None or (newest.completed or "") <= (last.completed or ""):
            return Choice(last, f"FineTuneJob {last.job}, which is no longer there")
    if newest is not None:
        return Choice(newest, f"FineTuneJob {newest.job}, the newest completed one with {text}")
    if labelled and not found:
        job = labelled[0]
        what = f"The artifact of FineTuneJob {name_of(job)}, which has the labels {text}, {_cannot_serve(job, runtime)}"
        return Choice(last, wait=Wait(OperatorReason.WAITING_FOR_JOB, what))
    if not found:
        return Choice(
            last,
            wait=Wait(
                OperatorReason.WAITING_FOR_JOB,
                f"No FineTuneJob of this namespace has the labels {text}; label one, or correct "
                "spec.model.fineTuneJobSelector",
            ),
        )
    states = ", ".join(f"{name_of(job)} is {phase_of(job)}" for job in sorted(found, key=name_of)[:5])
    return Choice(
        last,
        wait=Wait(OperatorReason.WAITING_FOR_JOB, f"No FineTuneJob with {text} has passed its gates yet: {states}"),
    )


def _result(job: KubeObject, labels: Mapping[str, str] | None = None) -> Target | None:
    """Return the artifact of a job that has succeeded, gates included; None if it has not."""
    if not has_succeeded(job):
        return None
    status: Mapping[str, Any] = job["status"]
    artifact = status["artifact"]
    written = job["spec"].get("output") or {}
    if not written.get("uri"):
        written = job["spec"].get("storage") or {}
    secret = (written.get("secretRef") or {}).get("name")
    completed = status.get("completionTime")
    digest = artifact.get("digest")
    task = job["spec"].get("task") or DEFAULT_TASK
    if (base := base_of(job)) is not None:
        own = OwnAdapter(adapter_name(job), artifact["uri"], digest)
        return Target(base["uri"], base.get("digest"), name_of(job), completed, labels, secret, own, task)
    return Target(artifact["uri"], digest, name_of(job), completed, labels, secret, task=task)


def _cannot_serve(job: KubeObject, runtime: RuntimeSpec) -> str | None:
    """Return why the artifact of a job holds no model that can be served, as the end of a sentence; else None."""
    task = job["spec"].get("task") or DEFAULT_TASK
    precisions = (job["spec"].get("export") or {}).get("precisions")
    if precisions is None and task in TASKS:
        precisions = TASKS[task].default_precisions
    provider, batch = runtime.execution_provider, runtime.batch_precision
    if precisions is None:
        return None
    if servable(precisions, provider, task):
        return lacks_batch_precision(batch) if batch is not None and batch not in precisions else None
    return cannot_serve(precisions, provider, task) if precisions else NO_ONNX


def _no_path(target: Target, field: str) -> str:
    where = f"The artifact of FineTuneJob {target.job}" if target.job else f"{field}.uri"
    return f"{where} is {target.uri}, {NO_PATH}"
