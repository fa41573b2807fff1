"""Writes a job's inputs into its work folder: the configuration and the ConfigMaps."""

from __future__ import annotations

import shutil
from pathlib import Path

from tunesmith_api.spec import DatasetSource, JobConfig, ModelSpec, OutputSpec, TrainingJobSpec
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_backend.local.changes import (
    ConfigMaps,
    changed_config_maps,
    config_map_files,
    has_begun,
    refuse_changes,
)
from tunesmith_backend.local.data_changes import changed_sources
from tunesmith_backend.local.store import write_file


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
    export = spec.export
    if export.base_uri is not None:
        export = export.model_copy(update={"base_uri": absolute_uri(export.base_uri, base)})
    return spec.model_copy(update={"dataset": dataset, "model": model, "export": export, "output": output})


def write_inputs(config: JobConfig, config_maps: ConfigMaps, work: WorkFolder, *, restart: bool) -> None:
    """Write `config.json` and the ConfigMaps that the job reads.

    Before training, changed data is prepared again. What the stages do about a changed spec they decide themselves.

    Args:
        config: The job.
        config_maps: The ConfigMaps that are known: `{(namespace, name): {key: content}}`.
        work: The job's work folder.
        restart: Discard the job's earlier work.

    Raises:
        BackendError: The job has begun to train with other inputs, and `restart` is not set. Nothing was written.
    """
    if restart:
        made = (*(work.stage(stage) for stage in Stage), work.artifact, *work.checkpoint_artifacts())
        for path in (*made, work.config_maps):
            shutil.rmtree(path, ignore_errors=True)
    files = config_map_files(config, config_maps, work)
    refuse_changes(config, files, work)
    if not has_begun(work) and (changed_config_maps(files, work) or changed_sources(config, work)):
        shutil.rmtree(work.stage(Stage.PREPARE), ignore_errors=True)
    write_file(work.config, config.model_dump_json(by_alias=True, exclude_none=True, indent=2).encode())
    for path, data in files.items():
        write_file(path, data)
