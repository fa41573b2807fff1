"""Ties each export to the weights that it was made from, so that an old export never stands beside new weights."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import Precision
from tunesmith_trainer.storage.files import digest_of_tree, read_json, write_json


def is_exported(folder: Path, precision: Precision) -> bool:
    """Return whether there is an export of a precision that was recorded."""
    return (folder / "onnx" / precision.value).is_dir() and _file(folder, precision).is_file()


def remove_export(folder: Path, precision: Precision) -> None:
    """Remove an export that was not recorded, and the results of checks of an earlier one."""
    shutil.rmtree(folder / "onnx" / precision.value, ignore_errors=True)
    for name in ("parity", "layers", "served"):
        (folder / f"{name}-{precision.value}.json").unlink(missing_ok=True)
    (folder / "parity-template.json").unlink(missing_ok=True)


def discard_export(folder: Path, precision: Precision) -> None:
    """Remove an export that was recorded and is wrong, so that the next run makes another one."""
    _file(folder, precision).unlink(missing_ok=True)
    remove_export(folder, precision)


def record_export(folder: Path, precision: Precision, model: str) -> None:
    """Record which weights an export was made from, and its own files.

    Args:
        folder: The stage's folder, with the export in `onnx/PRECISION`.
        precision: The export's precision.
        model: Digest of the tuned model that was exported.
    """
    write_json(_file(folder, precision), _record(folder, precision, model))


def require_current_exports(folder: Path, precisions: Collection[Precision], merged: Path, model: str) -> None:
    """Fail if an export that an earlier run made is not of these weights, or has changed since.

    Args:
        folder: The stage's folder.
        precisions: The exports that earlier runs made.
        merged: The tuned model.
        model: Its digest.

    Raises:
        StageError: PARITY_FAILED.
    """
    for precision in precisions:
        if read_json(_file(folder, precision)) != _record(folder, precision, model):
            exported = folder / "onnx" / precision.value
            raise StageError(
                Reason.PARITY_FAILED,
                f"the {precision.value} export in {exported} is not of the model in {merged}",
                f"Remove {exported}, and run the job again: it is exported anew",
            )


def _record(folder: Path, precision: Precision, model: str) -> dict[str, str]:
    return {"model": model, "files": digest_of_tree(folder / "onnx" / precision.value)}


def _file(folder: Path, precision: Precision) -> Path:
    return folder / f"export-{precision.value}.json"
