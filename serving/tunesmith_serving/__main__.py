"""`python -m tunesmith_serving --artifact DIR`: serve one model over HTTP."""

import argparse
import asyncio
import os
import signal
import socket
import sys
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from pydantic import ValidationError

from tunesmith_api.contract import SERVER_INVALID_ARTIFACT, SERVER_OUT_OF_MEMORY
from tunesmith_serving.config import ServingConfig
from tunesmith_serving.errors import MemoryShortageError, ServingError
from tunesmith_serving.memory import ask_for_huge_pages

if TYPE_CHECKING:
    from tunesmith_serving.engine.load import LoadedModel

WARM_UP_SECONDS = 600
# A thread that comes back from ONNX Runtime waits at most this long for the event loop's thread to yield.
SWITCH_SECONDS = 0.0001


def main(arguments: list[str] | None = None) -> int:
    """Run the server.

    Returns:
        The exit code: 0 after an orderly shutdown, 1 if requests were cut off, 2 for an artifact that cannot be served
        (or a wrong option), 3 for want of memory.

    Raises:
        SystemExit: SIGTERM has come before the server ran.
    """
    namespace = _parser().parse_args(arguments)
    given = {key: value for key, value in vars(namespace).items() if value is not None}
    artifact: str = given.pop("artifact")
    try:
        config = ServingConfig(**given)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]) if first["loc"] else ""
        return _fail(f"{_OPTION_OF.get(option, option)}: {first['msg']}")
    sys.setswitchinterval(SWITCH_SECONDS)
    # As the first process of a container we would not get SIGTERM while the model loads: the kernel gives that process
    # only the signals that it has asked for. The server handles it otherwise once it runs.
    signal.signal(signal.SIGTERM, _leave)
    try:
        return _serve(artifact, config)
    except MemoryShortageError as error:
        return _fail(str(error), SERVER_OUT_OF_MEMORY)
    except ServingError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return 130


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _serve(artifact: str, config: ServingConfig) -> int:
    from tunesmith_serving.engine.load import load_model
    from tunesmith_serving.http.server import bind

    listener = bind(config.host, config.port)
    port: int = listener.getsockname()[1]
    loaded = load_model(artifact, config)
    host = f"[{config.host}]" if ":" in config.host else config.host
    try:
        finished = asyncio.run(_run(loaded, config, listener, f"http://{host}:{port}"))
    finally:
        loaded.engine.close()
    if not finished:
        print(f"requests were still running after {config.shutdown_seconds:g} s and were cut off", file=sys.stderr)
    return 0 if finished else 1


async def _run(loaded: "LoadedModel", config: ServingConfig, listener: socket.socket, url: str) -> bool:
    from tunesmith_serving.engine.types import EngineFailedError
    from tunesmith_serving.http.app import create_app
    from tunesmith_serving.http.server import serve
    from tunesmith_serving.http.state import ServedModel, ServerState

    state = ServerState()
    app = create_app(
        ServedModel(config.model_name, loaded.engine, loaded.tokenizer, loaded.template),
        state,
        api_key=os.environ.get(config.api_key_env),
        max_body_bytes=config.max_body_bytes,
    )

    def warm_up() -> None:
        try:
            loaded.warm_up(WARM_UP_SECONDS)
        except (EngineFailedError, TimeoutError) as error:
            raise ServingError(f"the model loads but does not run: {error}; export it again") from None

    return await serve(
        app,
        state,
        listener,
        warm_up=warm_up,
        on_ready=lambda: print(f"ready {url}", flush=True),
        engine=loaded.engine,
        drain_seconds=config.drain_seconds,
        shutdown_seconds=config.shutdown_seconds,
    )


_OPTION_OF = {
    "precision": "--precision",
    "context_length": "--context-length",
    "max_batch_size": "--slots",
    "max_queue_length": "--max-queue",
    "prefill_chunk": "--prefill-chunk",
    "threads": "--threads",
    "model_name": "--model-name",
    "host": "--host",
    "port": "--port",
    "max_body_bytes": "--max-body-bytes",
    "drain_seconds": "--drain-seconds",
    "shutdown_seconds": "--shutdown-seconds",
    "expect_digest": "--expect-digest",
    "api_key_env": "--api-key-env",
}
_NUMBERS = {
    "context_length": int,
    "max_batch_size": int,
    "max_queue_length": int,
    "prefill_chunk": int,
    "threads": int,
    "port": int,
    "max_body_bytes": int,
    "drain_seconds": float,
    "shutdown_seconds": float,
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line instead of the usage and a line."""
        self.exit(_fail(f"{message}; see --help"))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tunesmith_serving", description="Serve an artifact over an OpenAI-compatible HTTP API.")
    parser.add_argument("--artifact", required=True, metavar="DIR", help="Artifact folder, with its manifest.json.")
    for name, option in _OPTION_OF.items():
        field = ServingConfig.model_fields[name]
        text = f"{field.description} (default: {field.default})".replace("%", "%%")
        parser.add_argument(option, dest=name, type=_NUMBERS.get(name, str), metavar=name.upper(), help=text)
    return parser


def _fail(message: str, code: int = SERVER_INVALID_ARTIFACT) -> int:
    print(f"tunesmith-serving: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    ask_for_huge_pages()
    sys.exit(main())
