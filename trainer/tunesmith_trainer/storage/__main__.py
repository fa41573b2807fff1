"""`python -m tunesmith_trainer.storage`: copies an artifact to where it is served, a file, or adapters as they come."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from tunesmith_api.artifact import SMALLEST
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import Precision
from tunesmith_api.spec.execution_providers import CPU, EXECUTION_PROVIDERS
from tunesmith_trainer.storage.downloads import fetch_file
from tunesmith_trainer.storage.fetch import fetch_artifact
from tunesmith_trainer.storage.follow import Follower


def main(arguments: list[str] | None = None) -> int:
    """Fetch what the arguments name, and return the process exit code (see `EXIT_CODES`)."""
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
    follow = commands.add_parser("follow", help="copy the adapters of a list as it changes, until SIGTERM")
    follow.add_argument("list", type=Path, help="the list")
    follow.add_argument("copies", type=Path, help="folder of the copies, and of the list for the server")
    follow.add_argument("--secrets", type=Path, help="folder with a folder of variables for each Secret")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    if "copies" in options:
        return _follow(Follower(options.list, options.copies, options.secrets))
    try:
        if "target" in options:
            fetch_file(options.uri, options.target, missing=Reason.MODEL_NOT_FOUND)
        else:
            fetch_artifact(options.uri, options.folder, options.precision, options.execution_provider)
    except StageError as error:
        print(f"{error.reason.value}: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    return 0


def _follow(follower: Follower) -> int:
    stop = threading.Event()
    # The first process of a container has no default handlers.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    follower.run(stop)
    follower.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
