"""`python -m tunesmith_trainer.storage`: copies an artifact to where it is served, or one file of an object store."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from tunesmith_api.artifact import SMALLEST
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import Precision
from tunesmith_api.spec.execution_providers import CPU, EXECUTION_PROVIDERS
from tunesmith_trainer.storage.downloads import fetch_file
from tunesmith_trainer.storage.fetch import fetch_artifact


def main(arguments: list[str] | None = None) -> int:
    """Fetch an artifact or a file, and return the process exit code (see `EXIT_CODES`)."""
    parser = argparse.ArgumentParser(prog="tunesmith_trainer.storage", description=__doc__)
    commands = parser.add_subparsers(required=True)
    fetch = commands.add_parser("fetch", help="copy an artifact")
    fetch.add_argument("uri", help="the artifact")
    fetch.add_argument("folder", type=Path, help="the target folder")
    fetch.add_argument(
        "--precision",
        choices=[SMALLEST, *(item.value for item in Precision)],
        help=f"copy this precision only; {SMALLEST}: the one that a server takes which is not told a precision",
    )
    fetch.add_argument(
        "--execution-provider", choices=list(EXECUTION_PROVIDERS), default=CPU, help=f"of that server; {CPU} by default"
    )
    file = commands.add_parser("file", help="copy one file")
    file.add_argument("uri", help="the file")
    file.add_argument("target", type=Path, help="the local file")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    try:
        if "target" in options:
            fetch_file(options.uri, options.target, missing=Reason.MODEL_NOT_FOUND)
        else:
            fetch_artifact(options.uri, options.folder, options.precision, options.execution_provider)
    except StageError as error:
        print(f"{error.reason.value}: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
