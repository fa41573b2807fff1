"""Chooses the adapters that the servers are told to load, from the spec and the FineTuneJobs: pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping

from tunesmith_api.objects import InferenceWorkspaceSpec
from tunesmith_api.objects.served_adapters import (
    ADAPTER_NAME,
    ADAPTER_NAME_ANNOTATION,
    ADAPTER_NAME_LENGTH,
    MAX_ADAPTERS,
    ServedAdapterSpec,
)
from tunesmith_api.objects.storage import OBJECT_STORE
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.inferenceworkspace.adapters.mounts import fetches
from tunesmith_operator.inferenceworkspace.model import Adapter, Adapters, Target, Withheld, claim_of
from tunesmith_operator.inferenceworkspace.source import (
    NO_PATH,
    adapter_name,
    base_of,
    has_succeeded,
    is_going,
    matches,
    name_of,
    phase_of,
)
from tunesmith_operator.pods.facts import condition

_SHORT = 17
_MARK = 8


def choose_adapters(
    workspace: str, spec: InferenceWorkspaceSpec, target: Target, jobs: Iterable[KubeObject]
) -> Adapters:
    """Return the adapters to serve on a base model. A name in `spec.adapters` wins over a job's own.

    Args:
        workspace: Name of the workspace, under which the base model itself is served.
        spec: Its spec.
        target: The base model.
        jobs: FineTuneJobs of the namespace; those that the spec does not refer to are ignored.
    """
    there = {name_of(job): job for job in jobs if not is_going(job)}
    found: dict[str, Adapter | Withheld] = {}
    for item in (*_listed(spec.adapters or (), target, there), *_own(target), *_followed(spec, target, there)):
        found.setdefault(item.name, item)
    checked = [_checked(item, workspace, spec, target) for item in found.values()]
    sent = [item for item in checked if isinstance(item, Adapter)]
    surplus = [_surplus(item) for item in sent[MAX_ADAPTERS:]]
    withheld = [item for item in checked if isinstance(item, Withheld)]
    return Adapters(
        tuple(sorted(sent[:MAX_ADAPTERS], key=lambda item: item.name)),
        tuple(sorted((*withheld, *surplus), key=lambda item: item.name)),
    )


def _listed(
    adapters: Iterable[ServedAdapterSpec], target: Target, jobs: Mapping[str, KubeObject]
) -> Iterator[Adapter | Withheld]:
    for given in adapters:
        secret = given.secret_ref.name if given.secret_ref else None
        if given.fine_tune_job is None:
            assert given.uri is not None  # noqa: S101 - a rule of the API
            yield Adapter(given.name, given.uri, secret=secret)
        elif (job := jobs.get(given.fine_tune_job)) is None:
            message = (
                f"There is no FineTuneJob {given.fine_tune_job} in this namespace; apply it, or correct the "
                "fineTuneJob of this adapter"
            )
            yield Withheld(given.name, message, failed=False)
        else:
            yield _of_job(given.name, job, target, secret)


def _own(target: Target) -> Iterator[Adapter]:
    if target.adapter is not None:
        yield Adapter(target.adapter.name, target.adapter.uri, target.adapter.digest)


def _followed(
    spec: InferenceWorkspaceSpec, target: Target, jobs: Mapping[str, KubeObject]
) -> Iterator[Adapter | Withheld]:
    """Yield the adapters of the labelled jobs that have succeeded, the newest first; before them what can be served.

    So one on another base does not take the place of an older one of its name that fits.
    """
    if spec.adapter_selector is None:
        return
    labels = spec.adapter_selector.match_labels
    done = [job for job in jobs.values() if matches(labels, job) and has_succeeded(job) and base_of(job) is not None]
    done.sort(key=lambda job: (job["status"].get("completionTime") or "", name_of(job)), reverse=True)
    found = [_of_job(adapter_name(job), job, target, None) for job in done]
    yield from sorted(found, key=lambda item: isinstance(item, Withheld))


def _of_job(name: str, job: KubeObject, target: Target, secret: str | None) -> Adapter | Withheld:
    label = f"FineTuneJob {name_of(job)}"
    stalled = condition(job, "Stalled")
    if stalled.get("status") == "True":
        return Withheld(name, f"{label} has failed ({stalled.get('reason')}): {stalled.get('message')}", failed=True)
    if not has_succeeded(job):
        return Withheld(name, f"{label} is {phase_of(job)}; its adapter is served when it is done", failed=False)
    artifact = job["status"]["artifact"]
    digest = artifact.get("digest")
    if (base := base_of(job)) is None:
        message = (
            f"The artifact of {label} is a whole model, not an adapter; train a job with export: "
            "{adapterOnly: true}, or serve this one by the spec.model of a workspace of its own"
        )
        return Withheld(name, message, failed=True, digest=digest)
    theirs = base.get("digest")
    if target.digest and theirs and theirs != target.digest:
        message = (
            f"{label} was trained on another base model ({theirs[:_SHORT]}) than the one that is served "
            f"({target.digest[:_SHORT]}); serve it in a workspace with spec.model: {{fineTuneJob: {name_of(job)}}}, or "
            "train it again on this base"
        )
        return Withheld(name, message, failed=True, digest=digest)
    return Adapter(name, artifact["uri"], digest, secret)


def _checked(
    item: Adapter | Withheld, workspace: str, spec: InferenceWorkspaceSpec, target: Target
) -> Adapter | Withheld:
    """Return an adapter, or why it cannot be served under this name or from where it is."""
    if item.name == workspace:
        is_listed = item.name in {given.name for given in spec.adapters or ()}
        remedy = "in spec.adapters" if is_listed else f"in its job's annotation {ADAPTER_NAME_ANNOTATION}"
        message = (
            f"{item.name} is the name of the workspace, under which the base model itself is served; write another "
            f"name {remedy}, or rename the workspace"
        )
        return Withheld(item.name, message, failed=True, digest=item.digest)
    if not re.fullmatch(ADAPTER_NAME, item.name) or len(item.name) > ADAPTER_NAME_LENGTH:
        message = (
            f"The name must be at most {ADAPTER_NAME_LENGTH} letters, digits, '-', '_' and '.'; correct the job's "
            f"annotation {ADAPTER_NAME_ANNOTATION}"
        )
        # The status has each name once, and long ones can begin alike.
        mark = hashlib.sha256(item.name.encode()).hexdigest()[:_MARK]
        short = f"{item.name[: ADAPTER_NAME_LENGTH - _MARK - 1]}-{mark}"
        return Withheld(short, message, failed=True, digest=item.digest)
    if isinstance(item, Withheld) or (problem := _unreachable(item, spec, target)) is None:
        return item
    return Withheld(item.name, problem, failed=True, digest=item.digest)


def _unreachable(adapter: Adapter, spec: InferenceWorkspaceSpec, target: Target) -> str | None:
    """Return why the servers cannot reach an adapter without being replaced; None if they can."""
    claim = claim_of(adapter.uri)
    if claim is not None:
        if target.claim is not None and claim[0] == target.claim[0]:
            return None
        there = f"on the claim {target.claim[0]}" if target.claim else "in an object store"
        remedy = (
            f"write storage: {{claimName: {target.claim[0]}}} in its job"
            if target.claim
            else "write storage: {uri: s3://BUCKET/PREFIX} in its job"
        )
        return (
            f"It is on the claim {claim[0]}, which the servers of this workspace do not mount: their base model is "
            f"{there}; {remedy}, or publish it in an object store and list it in spec.adapters by its uri"
        )
    if not re.match(OBJECT_STORE, adapter.uri):
        return f"It is at {adapter.uri}, {NO_PATH}"
    if not fetches(spec, target):
        return (
            "It is in an object store, and the servers of this workspace read from a volume only; write it as "
            f"spec.adapters: [{{name: {adapter.name}, uri: {adapter.uri}}}], which replaces the servers once"
        )
    return None


def _surplus(adapter: Adapter) -> Withheld:
    message = f"There are {MAX_ADAPTERS} others, which is the most that a workspace serves; use another workspace"
    return Withheld(adapter.name, message, failed=True, digest=adapter.digest)
