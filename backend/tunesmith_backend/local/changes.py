"""Refuses changes of a job's inputs that cannot change any more.

Until training has begun, everything can change. After that, only what the publish stage alone reads (`PUBLISH_FIELDS`)
can change, until the job has succeeded: nothing that is trained is trained again because of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunesmith_api.local.files import read_json
from tunesmith_api.spec import PUBLISH_FIELDS, JobConfig
from tunesmith_api.work_folder import STAGE_INPUTS, Stage, WorkFolder
from tunesmith_backend.interface.errors import BackendError

ConfigMaps = Mapping[tuple[str, str], Mapping[str, bytes]]


def has_begun(work: WorkFolder) -> bool:
    """Return whether the job has begun to train."""
    return work.stage(Stage.TRAIN).exists()


def has_succeeded(work: WorkFolder) -> bool:
    """Return whether the job has published its artifact."""
    return read_json(work.stage_marker(Stage.PUBLISH)) is not None


def changed_fields(before: Any, after: Any, path: str = "") -> list[str]:  # noqa: ANN401 - any JSON value
    """Return the paths of the fields that differ between two specs, such as `training.maxSteps`."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return [path] if before != after else []
    names = [*before, *(name for name in after if name not in before)]
    return [
        field
        for name in names
        for field in changed_fields(before.get(name), after.get(name), f"{path}.{name}" if path else str(name))
    ]


def is_publish_field(path: str) -> bool:
    """Return whether only the publish stage depends on a field."""
    return path.split(".")[0] in PUBLISH_FIELDS


def config_map_files(config: JobConfig, config_maps: ConfigMaps, work: WorkFolder) -> dict[Path, bytes]:
    """Return the ConfigMap keys that a job reads, by the files that they become in its work folder."""
    dataset = config.spec.dataset
    sources = (*dataset.sources, *(dataset.validation.sources or ()))
    refs = [source.config_map_key_ref for source in sources if source.config_map_key_ref is not None]
    return {work.config_maps / ref.name / ref.key: config_maps[config.namespace, ref.name][ref.key] for ref in refs}


def changed_config_maps(files: Mapping[Path, bytes], work: WorkFolder) -> list[str]:
    """Return the ConfigMap keys, `NAME/KEY`, whose content is not what the work folder has of them."""
    changed = [path for path, data in files.items() if path.exists() and path.read_bytes() != data]
    return [path.relative_to(work.config_maps).as_posix() for path in changed]


def changed_sources(work: WorkFolder) -> list[str]:
    """Return the local data files whose content is not what prepare has read.

    A file is read again only if it was written, replaced or renamed since prepare began.
    """
    marker: dict[str, Any] = read_json(work.stage_marker(Stage.PREPARE)) or {}
    inputs = work.stage(Stage.PREPARE) / STAGE_INPUTS
    if not marker or not inputs.exists():
        return []
    began = inputs.stat().st_mtime
    changed = []
    for source in (marker.get("data") or {}).get("sources") or []:
        path = Path(str(source.get("name", "")).removeprefix("file://"))
        if (
            path.is_absolute()
            and path.is_file()
            and path.stat().st_ctime >= began
            and _sha256(path) != source["sha256"]
        ):
            changed.append(str(path))
    return changed


def refuse_changes(config: JobConfig, files: Mapping[Path, bytes], work: WorkFolder) -> None:
    """Raise if a job that has begun to train has other inputs than it began with.

    Args:
        config: The job as it is now.
        files: `config_map_files` as they are now.
        work: The job's work folder.

    Raises:
        BackendError: The inputs have changed. Nothing was written.
    """
    if not has_begun(work):
        return
    job = f"FineTuneJob {config.namespace}/{config.name}"
    if data := [*changed_config_maps(files, work), *changed_sources(work)]:
        raise BackendError(f"{job} has begun with other data than {', '.join(data)} now; {_remedy(config, 'data')}")
    changed = changed_config(config, work)
    if trained := [field for field in changed if not is_publish_field(field)]:
        raise BackendError(f"{job} has begun with another {', '.join(trained)}; {_remedy(config, 'spec')}")
    if changed and has_succeeded(work):
        raise BackendError(
            f"{job} has succeeded, with another {', '.join(changed)}, and its artifact is never changed; "
            f"{_remedy(config, 'spec')}"
        )


def changed_config(config: JobConfig, work: WorkFolder) -> list[str]:
    """Return the fields of the spec that differ from the work folder's config.json; all of it if that is not valid."""
    try:
        before = JobConfig.model_validate_json(work.config.read_bytes())
    except FileNotFoundError:
        return []
    except ValidationError:  # of another version
        return ["spec"]
    return changed_fields(before.spec.to_api(), config.spec.to_api())


def _remedy(config: JobConfig, what: str) -> str:
    output = config.spec.output
    names = "metadata.name and output.uri" if output is not None and output.uri else "metadata.name"
    return (
        f"restore the {what}, or write another {names} for a new job, or add --restart to discard what this one has "
        "done and train again"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
