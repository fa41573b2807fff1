"""Writes a job's inputs into its work folder: the configuration and the ConfigMaps."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from tunesmith_api.local.files import read_json
from tunesmith_api.spec import DatasetSource, JobConfig, ModelSpec, OutputSpec, TrainingJobSpec
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_backend.interface.errors import BackendError
from tunesmith_backend.local.store import write_file

ConfigMaps = Mapping[tuple[str, str], Mapping[str, bytes]]


def absolute_uri(uri: str, base: Path) -> str:
    """Return a URI unchanged, and a path made absolute, relative to the manifest's folder."""
    return uri if "://" in uri else str((base / Path(uri).expanduser()).resolve())


def local_spec(spec: TrainingJobSpec, base: Path) -> TrainingJobSpec:
    """Return the spec with its paths made absolute, relative to the manifest's folder `base`."""

    def source(item: DatasetSource) -> DatasetSource:
        return item if item.uri is None else item.model_copy(update={"uri": absolute_uri(item.uri, base)})

    validation = spec.dataset.validation
    if validation.sources is not None:
        validation = validation.model_copy(update={"sources": tuple(map(source, validation.sources))})
    dataset = spec.dataset.model_copy(
        update={"sources": tuple(map(source, spec.dataset.sources)), "validation": validation}
    )
    model: ModelSpec = spec.model
    if model.uri is not None:
        model = model.model_copy(update={"uri": absolute_uri(model.uri, base)})
    output: OutputSpec | None = spec.output
    if output is not None and output.uri is not None:
        output = output.model_copy(update={"uri": absolute_uri(output.uri, base)})
    return spec.model_copy(update={"dataset": dataset, "model": model, "output": output})


def write_inputs(config: JobConfig, config_maps: ConfigMaps, work: WorkFolder, *, restart: bool) -> None:
    """Write `config.json` and the ConfigMaps that the job names.

    A job is what it was when it was created. When its configuration or data are others than those that it has begun to
    train on, nothing is touched.

    Args:
        config: The job.
        config_maps: The ConfigMaps that are known: `{(namespace, name): {key: content}}`.
        work: The job's work folder.
        restart: Discard the job's earlier work.

    Raises:
        BackendError: The job has begun with other inputs, and `restart` is not set.
    """
    if restart:
        for path in (*(work.stage(stage) for stage in Stage), work.artifact, work.config_maps):
            shutil.rmtree(path, ignore_errors=True)
    files = {work.config: config.model_dump_json(by_alias=True, exclude_none=True, indent=2).encode()}
    dataset = config.spec.dataset
    for source in (*dataset.sources, *(dataset.validation.sources or ())):
        if (ref := source.config_map_key_ref) is not None:
            files[work.config_maps / ref.name / ref.key] = config_maps[config.namespace, ref.name][ref.key]
    changed = [path for path, data in files.items() if path.exists() and path.read_bytes() != data]
    begun = work.stage(Stage.TRAIN).exists()
    if changed and begun:
        what = "spec" if work.config in changed else f"data ({changed[0].relative_to(work.config_maps)})"
        raise BackendError(
            f"FineTuneJob {config.namespace}/{config.name} has begun with another {what}; a job does not change once "
            "it has begun. Give the new one another name, or add --restart to throw away what it has done"
        )
    if changed:
        shutil.rmtree(work.stage(Stage.PREPARE), ignore_errors=True)
    for path, data in files.items():
        write_file(path, data)


def changed_sources(config: JobConfig, work: WorkFolder) -> list[str]:
    """Return the local data files that are newer than the rows that were prepared from them."""
    marker = work.stage_marker(Stage.PREPARE)
    if read_json(marker) is None:
        return []
    prepared = marker.stat().st_mtime
    dataset = config.spec.dataset
    paths = [
        Path(source.uri)
        for source in (*dataset.sources, *(dataset.validation.sources or ()))
        if source.uri is not None and "://" not in source.uri
    ]
    return [str(path) for path in paths if path.is_file() and path.stat().st_mtime > prepared]
