"""Copies an artifact to where it is served."""

from __future__ import annotations

from pathlib import Path

from tunesmith_api.artifact import MANIFEST, NO_ONNX, SMALLEST, held_precisions, onnx_folder
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec.execution_providers import CPU
from tunesmith_api.spec.runtime import cannot_serve, served_precision
from tunesmith_trainer.storage.downloads import fetch_folder
from tunesmith_trainer.storage.filesystems import list_folder


def fetch_artifact(uri: str, folder: Path, precision: str | None = None, provider: str = CPU) -> None:
    """Copy an artifact, its manifest last, so that the copy too is complete if it has a manifest.

    Args:
        uri: The artifact.
        folder: The target folder. Existing files of the right size are kept.
        precision: Copy the exported model of this precision only, or with `SMALLEST` the one that a server takes which
            is not told a precision; everything by default.
        provider: The execution provider of that server.

    Raises:
        StageError: MODEL_NOT_FOUND: there is no complete artifact, or none that can be served; SOURCE_UNAVAILABLE: it
            cannot be read at the moment.
    """
    names = list(list_folder(uri))
    if MANIFEST not in names:
        raise StageError(
            Reason.MODEL_NOT_FOUND,
            f"{uri} holds no complete artifact ({MANIFEST} is missing)",
            "Check the URI; an artifact that is still being written has its manifest last",
        )
    if precision == SMALLEST:
        held = held_precisions(names)
        precision = served_precision(held, provider=provider)
        if precision is None:
            raise StageError(
                Reason.MODEL_NOT_FOUND,
                f"{uri} {cannot_serve(held, provider) if held else NO_ONNX}",
                "Serve another artifact",
            )
    wanted = [name for name in names if precision is None or name.startswith(f"{onnx_folder(precision)}/")]
    if wanted := [name for name in wanted if name != MANIFEST]:
        fetch_folder(uri, folder, names=wanted)
    fetch_folder(uri, folder, names=[MANIFEST])
