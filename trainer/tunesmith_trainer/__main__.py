"""`python -m tunesmith_trainer prepare|train|publish|data --work FOLDER`: stages and data report."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from tunesmith_api.failures import EXIT_CODES, Reason
from tunesmith_api.local.imports import importing


def main(arguments: list[str] | None = None) -> int:
    """Run a stage and return the process exit code (see `EXIT_CODES`).

    The SIGTERM handler is installed before anything is imported: without one the kernel does not deliver SIGTERM to the
    first process of a container, and imports take seconds on a busy machine.
    """
    signal.signal(signal.SIGTERM, _exit)
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["data"]:
        from tunesmith_trainer.prepare.data_command import main as report

        return report(arguments[1:])
    with importing():
        from tunesmith_trainer.stages.command import main as run

    return run(arguments)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(EXIT_CODES[Reason.INTERRUPTED])


if __name__ == "__main__":
    sys.exit(main())
