"""The command: options, exit codes, and SIGTERM while the model loads."""

import signal
import sys
from types import FrameType
from typing import NoReturn

from pydantic import ValidationError

from tunesmith_api.contract import SERVER_OUT_OF_MEMORY
from tunesmith_serving.process.exit import fail
from tunesmith_serving.process.options import build_parser, option_of
from tunesmith_serving.runtime.config import ServingConfig
from tunesmith_serving.runtime.errors import MemoryShortageError, ServingError

# The longest that a thread returning from ONNX Runtime waits for the event loop's thread to release the GIL.
SWITCH_SECONDS = 0.0001


def main(arguments: list[str] | None = None) -> int:
    """Run the server.

    Returns:
        The exit code: 0 after an orderly shutdown, 1 if requests were cut off, 2 for an artifact that cannot be served
        or a wrong option, 3 if the model does not fit in memory.

    Raises:
        SystemExit: SIGTERM arrived before the server ran.
    """
    namespace = build_parser().parse_args(arguments)
    given = {key: value for key, value in vars(namespace).items() if value is not None}
    artifact: str = given.pop("artifact")
    try:
        config = ServingConfig(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "string_pattern_mismatch" and (examples := ServingConfig.model_fields[name].examples):
            message = f"cannot be {first['input']!r}; write for example {examples[0]}"
        return fail(f"{option_of(name)}: {message}" if name else message)
    sys.setswitchinterval(SWITCH_SECONDS)
    # The kernel gives the first process of a container only the signals that it has a handler for: without this one,
    # SIGTERM would be lost while the model loads. The server installs another handler once it runs.
    signal.signal(signal.SIGTERM, _exit)
    try:
        return run_server(artifact, config)
    except MemoryShortageError as error:
        return fail(str(error), SERVER_OUT_OF_MEMORY)
    except ServingError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        return 130


def run_server(artifact: str, config: ServingConfig) -> int:
    """Load an artifact, serve it, and return the exit code."""
    # Imported here, so that a wrong option is reported before the libraries are loaded.
    from tunesmith_serving.process.run import load_and_serve

    if load_and_serve(artifact, config):
        return 0
    print(f"requests were still running after {config.shutdown_seconds:g} s and were cut off", file=sys.stderr)
    return 1


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
