"""`python -m tunesmith_trainer.storage fetch URI FOLDER`: copy an artifact to where it is served."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from tunesmith_api.failures import StageError
from tunesmith_api.spec import Precision
from tunesmith_trainer.storage.fetch import fetch_artifact


def main(arguments: list[str] | None = None) -> int:
    """Fetch an artifact and return the process exit code (see `EXIT_CODES`)."""
    parser = argparse.ArgumentParser(prog="tunesmith_trainer.storage", description=__doc__)
    commands = parser.add_subparsers(required=True)
    fetch = commands.add_parser("fetch", help="copy an artifact")
    fetch.add_argument("uri", help="the artifact")
    fetch.add_argument("folder", type=Path, help="the target folder")
    fetch.add_argument("--precision", choices=[item.value for item in Precision], help="copy this precision only")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    try:
        fetch_artifact(options.uri, options.folder, options.precision)
    except StageError as error:
        print(f"{error.reason.value}: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
