"""Exports that keep keys and values in int8, with scales from the job's training rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safetensors import safe_open
from safetensors.numpy import save_file

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.export.int8_cache import Ranges, measure_ranges, quantise_cache

RANGES = "kv-cache.safetensors"
"""What was measured, in the stage's folder."""
_MODEL = "model"
_ROWS, _TOKENS = 128, 32_768
"""The most rows that are measured, and their tokens."""


def keep_in_int8(export: Path, work: WorkFolder, model: str, *, prompts: bool = True) -> None:
    """Let an export keep its keys and values in int8, in place.

    All exports of a model have the same scales, those of the first one: a server computes with two of them together.

    Args:
        export: The folder of the export.
        work: The job's work folder.
        model: Digest of the tuned model that was exported.
        prompts: Whether it is to be fast for prompts too; see `quantise_cache`.

    Raises:
        StageError: EXPORT_FAILED the model's attention is not computed by a kernel that can.
    """
    kept = work.stage(Stage.PUBLISH) / RANGES
    ranges = _read(kept, model)
    if ranges is None:
        store = TokenStore.open(work.stage(Stage.PREPARE) / "data" / "train")
        ranges = measure_ranges(export, calibration_rows(store))
        temporary = kept.with_name(f".{kept.name}.tmp")
        save_file(ranges, temporary, {_MODEL: model})
        temporary.replace(kept)
    if not quantise_cache(export, ranges, prompts=prompts):
        raise StageError(
            Reason.EXPORT_FAILED,
            "export.kvCache: int8 needs attention over grouped queries in all layers, which this model's export lacks",
            "Remove export.kvCache",
        )


def _read(path: Path, model: str) -> Ranges | None:
    """Return what was measured for a model, if it was."""
    if not path.exists():
        return None
    with safe_open(path, framework="numpy") as found:
        return {name: found.get_tensor(name) for name in found.keys()} if found.metadata()[_MODEL] == model else None


def calibration_rows(store: TokenStore) -> Iterator[list[int]]:
    """Yield rows from all over the data, as many as tell what keys and values come to."""
    left = _TOKENS
    for index in range(0, len(store), max(1, len(store) // _ROWS)):
        tokens = store[index][0][:left].tolist()
        left -= len(tokens)
        if tokens:
            yield tokens
        if left <= 0:
            return
