"""`python -m tunesmith_trainer.storage fetch URI FOLDER`: bring an artifact to where it is served."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from tunesmith_trainer import storage
from tunesmith_trainer.config import Precision, Reason, TrainerError
from tunesmith_trainer.publish.artifact import MANIFEST


def fetch_artifact(uri: str, folder: Path, precision: str | None = None) -> None:
    """Copy an artifact, its manifest last, so that its presence means here too that all is there.

    Args:
        uri: The artifact.
        folder: Where to; what is there already is kept.
        precision: Copy the exported model of this precision only; everything by default.

    Raises:
        TrainerError: MODEL_NOT_FOUND: there is no complete artifact; SOURCE_UNAVAILABLE: it cannot be read just now.
    """
    names = list(storage.list_folder(uri))
    if MANIFEST not in names:
        raise TrainerError(
            Reason.MODEL_NOT_FOUND,
            f"{uri} holds no complete artifact (manifest.json is missing)",
            "Check the URI; an artifact that is still being written has its manifest last",
        )
    wanted = [name for name in names if precision is None or name.startswith(f"onnx/{precision}/")]
    if wanted := [name for name in wanted if name != MANIFEST]:
        storage.fetch_folder(uri, folder, names=wanted)
    storage.fetch_folder(uri, folder, names=[MANIFEST])


def main(arguments: list[str] | None = None) -> int:
    """Fetch an artifact and return the process exit code (see `EXIT_CODES`)."""
    parser = argparse.ArgumentParser(prog="tunesmith_trainer.storage", description=__doc__)
    commands = parser.add_subparsers(required=True)
    fetch = commands.add_parser("fetch", help="copy an artifact")
    fetch.add_argument("uri", help="the artifact")
    fetch.add_argument("folder", type=Path, help="where to")
    fetch.add_argument("--precision", choices=[item.value for item in Precision], help="copy this precision only")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    try:
        fetch_artifact(options.uri, options.folder, options.precision)
    except TrainerError as error:
        print(f"{error.reason.value}: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    return 0
