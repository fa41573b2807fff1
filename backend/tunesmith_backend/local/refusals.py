"""Refuses a job that is applied with changes, as a cluster does, before anything is written."""

from __future__ import annotations

from tunesmith_api.objects import FineTuneJob
from tunesmith_api.objects.finetunejob import CHANGEABLE
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_backend.interface.errors import BackendError
from tunesmith_backend.interface.protocol import ref_of
from tunesmith_backend.local.changes import (
    ConfigMaps,
    changed_config_maps,
    changed_fields,
    changed_sources,
    config_map_files,
    has_begun,
    has_succeeded,
    is_publish_field,
)
from tunesmith_backend.local.inputs import local_spec
from tunesmith_backend.local.objects import ObjectFolder, Stored


def refuse_job_changes(objects: ObjectFolder, job: FineTuneJob, stored: Stored, config_maps: ConfigMaps) -> None:
    """Raise if a job that exists would change where it cannot.

    Args:
        objects: What is stored.
        job: The job as it is applied.
        stored: The same, as it would be stored.
        config_maps: The ConfigMaps that are applied with it.

    Raises:
        BackendError: A field or the data of the job cannot change any more. Nothing was written.
    """
    ref = ref_of(job)
    before = objects.find(ref)
    if before is None:
        return
    work = WorkFolder(objects.folder(ref))
    succeeded = has_succeeded(work)
    changed = [
        field
        for field in _changed(before, stored)
        if (succeeded if is_publish_field(field) else field.split(".")[0] not in CHANGEABLE)
    ]
    if changed:
        when = "has succeeded" if succeeded else "exists"
        raise BackendError(
            f"{ref} {when}, and its {', '.join(changed)} cannot change; restore the spec, write another "
            "metadata.name for a new job, or delete this one first"
        )
    if not has_begun(work):
        return
    config = JobConfig(name=ref.name, namespace=ref.namespace, spec=local_spec(job.spec.training_spec(), stored.base))
    files = config_map_files(config, {**objects.config_maps(ref.namespace), **config_maps}, work)
    if data := [*changed_config_maps(files, work), *changed_sources(work)]:
        raise BackendError(
            f"{ref} has begun with other data than {', '.join(data)} now; restore the data, write another "
            "metadata.name for a new job, or delete this one first"
        )


def _changed(before: Stored, after: Stored) -> list[str]:
    """Return the fields that differ, each once: as they are written, or in the absolute path that is meant."""
    old, new = (FineTuneJob.model_validate(stored.manifest).spec for stored in (before, after))
    meant_old, meant_new = (
        local_spec(spec.training_spec(), stored.base).to_api() for spec, stored in ((old, before), (new, after))
    )
    return list(dict.fromkeys([*changed_fields(old.to_api(), new.to_api()), *changed_fields(meant_old, meant_new)]))
