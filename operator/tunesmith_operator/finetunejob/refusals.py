"""Checks of a job that need the cluster, before any stage runs."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith_api.failures import Reason
from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_operator.finetunejob.failures import Failure
from tunesmith_operator.finetunejob.observed import Observed
from tunesmith_operator.finetunejob.volume import SHARED


def refusal_of(observed: Observed) -> Failure | None:
    """Return why a job cannot run as specified; None if it can."""
    spec = observed.spec
    for error in observed.errors:
        if error.status in (400, 422):
            message = f"the API server refuses the {error.ref.kind}: {error.message}. Correct the spec"
            return _invalid(message)
    if spec.storage.claim_name is None:
        for field, uri in _paths(spec):
            what = "work is in an object store" if spec.storage.uri else "new volume is empty"
            message = f"{field}: {uri} is a path, and the job's {what}. Write storage: {{claimName: NAME}}"
            return _invalid(f"{message} with the volume that holds it, or an s3://, abfs://, gs:// or https:// URI")
    elif spec.resources.nodes > 1 and observed.claim is not None:
        modes = observed.claim["spec"].get("accessModes") or []
        if SHARED not in modes:
            name = observed.claim_name
            message = f"storage.claimName: {name} can be mounted on one node only ({', '.join(modes)}), and"
            needed = f"resources.nodes is {spec.resources.nodes}. Give a claim with access mode {SHARED}"
            return _invalid(f"{message} {needed}, or write nodes: 1")
    return None


def _invalid(message: str) -> Failure:
    return Failure(Reason.INVALID_SPEC.value, message)


def _paths(spec: FineTuneJobSpec) -> Iterator[tuple[str, str]]:
    """Yield the inputs that are relative paths, with their fields."""
    uris = [("model.uri", spec.model.uri)]
    uris += [(f"dataset.sources[{n}].uri", source.uri) for n, source in enumerate(spec.dataset.sources)]
    validation = spec.dataset.validation.sources or ()
    uris += [(f"dataset.validation.sources[{n}].uri", source.uri) for n, source in enumerate(validation)]
    for field, uri in uris:
        if uri is not None and "://" not in uri and not uri.startswith("/"):
            yield f"spec.{field}", uri
