"""How much disk the later stages need, estimated before training and compared with what is free."""

from __future__ import annotations

import os
from pathlib import Path

from tunesmith_api.methods import METHODS
from tunesmith_api.resolve import resolve
from tunesmith_api.spec import AdapterSpec, JobConfig, Precision, TrainingJobSpec
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.models.weights_check import Architecture
from tunesmith_trainer.runtime.disk import disk_full, free_bytes, human
from tunesmith_trainer.storage.uris import local_path

_FP32 = 4  # bytes of a weight
_STATE = 12  # bytes of a trained weight in a checkpoint: itself and Adam's two moments
_INT4 = 0.65  # bytes of a quantised weight, with its share of the block's scale and zero point
_UNQUANTISED = ("embed_tokens", "norm")


def estimate(spec: TrainingJobSpec, architecture: Architecture, train_rows: int) -> dict[str, int]:
    """Return the bytes that the later stages write in the work folder, by what they are, and their `total`.

    Hard links, by which the artifact shares its files with the stages, count once.
    """
    trains_adapter = METHODS[spec.method].trains_adapter
    trained = _adapter_weights(spec, architecture) if trains_adapter else architecture.parameters
    resolved = resolve(spec, 1, train_rows, has_bf16=False)
    # One more than is kept, while the next one is written. None is written after the last step.
    checkpoints = min(spec.training.checkpoint.keep + 1, (resolved.total_steps - 1) // resolved.checkpoint_steps)
    parts = {
        "checkpoints": checkpoints * trained * _STATE,
        "trained weights": trained * _FP32,
        "merged model": architecture.parameters * _FP32 if trains_adapter else 0,
        **{f"{precision.value} export": _export(precision, architecture) for precision in spec.export.precisions},
    }
    return {**parts, "total": sum(parts.values())}


def require_disk(config: JobConfig, work: WorkFolder, parts: dict[str, int]) -> None:
    """Fail if the work folder's disk, or that of a local output, has less room than is needed.

    Raises:
        StageError: DISK_FULL, with the need of each part.
    """
    _require(work.root, parts["total"], {name: size for name, size in parts.items() if name != "total"})
    output = local_path(config.spec.output.uri) if config.spec.output and config.spec.output.uri else None
    if output is None:
        return
    parent = next(folder for folder in output.parents if folder.exists())
    if os.stat(parent).st_dev != os.stat(work.root).st_dev:  # no hard links between two disks
        copied = {name: size for name, size in parts.items() if name.endswith(("export", "trained weights"))}
        if config.spec.export.merge_weights:
            copied["merged model"] = parts["merged model"]
        _require(output, sum(copied.values()), copied)


def _require(path: Path, needed: int, parts: dict[str, int]) -> None:
    if needed > free_bytes(path):
        raise disk_full(path, needed, ", ".join(f"{name} {human(size)}" for name, size in parts.items() if size))


def _adapter_weights(spec: TrainingJobSpec, architecture: Architecture) -> int:
    """Return the number of weights of the adapter."""
    adapter = spec.adapter or AdapterSpec()
    count = 0
    for name, shape in architecture.shapes.items():
        layer = name.removesuffix(".weight")
        if len(shape) != 2 or layer.endswith(("embed_tokens", "lm_head")):
            continue
        if adapter.target_modules and not any(layer.endswith(target) for target in adapter.target_modules):
            continue
        count += adapter.rank * sum(shape) + shape[0]
    return count


def _export(precision: Precision, architecture: Architecture) -> int:
    """Return the bytes of an export, in which tied tensors are stored twice."""
    size = 0.0
    for name, shape in architecture.shapes.items():
        weights = 1
        for length in shape:
            weights *= length
        quantised = precision is Precision.INT4 and not any(part in name for part in _UNQUANTISED)
        size += weights * (_INT4 if quantised else _FP32)
    return int(size)
