"""The command: options and exit codes, which are those of a server."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from typing import IO

from tunesmith_api.contract import SERVER_OUT_OF_MEMORY
from tunesmith_serving.process.exit import fail
from tunesmith_serving.runtime.config import ServingConfig
from tunesmith_serving.runtime.errors import MemoryShortageError, ServingError


def main(arguments: list[str] | None = None) -> int:
    """Replay the requests on standard input; see `tunesmith_api.contract.REPLAY_MODULE` for the format.

    Returns:
        The exit code: 0 if every line has an answer (which may be an error), 2 for an artifact that cannot be served,
        3 if the model does not fit in memory.
    """
    parser = argparse.ArgumentParser(
        prog="tunesmith_serving.replay", description="Answer requests from standard input as the server would."
    )
    parser.add_argument("--artifact", required=True, metavar="DIR", help="Artifact folder, with its manifest.json.")
    parser.add_argument(
        "--precision",
        choices=["fp32", "fp16", "bf16", "int8", "int4"],
        help="Exported model to use; by default as a server.",
    )
    parser.add_argument("--slots", type=int, default=ServingConfig().max_batch_size, help="Requests in a batch.")
    parser.add_argument("--threads", type=int, default=0, help="Threads of ONNX Runtime; 0 uses all processors.")
    parser.add_argument(
        "--now", type=float, metavar="SECONDS", help="Time for chat templates that write the date, since the epoch."
    )
    parser.add_argument(
        "--adapter", metavar="DIR", help="Folder of a LoRA adapter, as peft saves it, that answers every request."
    )
    options = parser.parse_args(arguments)
    config = ServingConfig(precision=options.precision, max_batch_size=options.slots, threads=options.threads)
    now = datetime.now if options.now is None else lambda: datetime.fromtimestamp(options.now)
    try:
        # Imported here: a wrong option must not wait for the libraries.
        from tunesmith_serving.replay.run import replay

        replay(options.artifact, config, now, sys.stdin.buffer, _Lines(sys.stdout), options.adapter)
    except MemoryShortageError as error:
        return fail(str(error), SERVER_OUT_OF_MEMORY)
    except ServingError as error:
        return fail(str(error))
    return 0


class _Lines:
    """Writes a line at a time, so that the reader sees progress."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __call__(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()
