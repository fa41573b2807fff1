"""Loading an artifact and running its server."""

import os
import socket

import uvloop

from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.base import Engine
from tunesmith_serving.engines.registry import load_engine
from tunesmith_serving.http.app import create_app
from tunesmith_serving.http.lifecycle import bind, serve
from tunesmith_serving.http.state import ServerState
from tunesmith_serving.runtime.config import ServingConfig


def load_and_serve(artifact: str, config: ServingConfig) -> bool:
    """Load an artifact and serve it until a signal; return whether every request was answered completely.

    Raises:
        ServingError: The address is taken, or the artifact cannot be served.
    """
    # The port is bound first, so that a port in use is reported before the model loads.
    listener = bind(config.host, config.port)
    opened = open_artifact(artifact, config.precision, config.expect_digest, config.execution_provider)
    engine = load_engine(opened, config)
    try:
        return uvloop.run(_serve(engine, config, listener))
    finally:
        engine.close()


async def _serve(engine: Engine, config: ServingConfig, listener: socket.socket) -> bool:
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    state = ServerState()
    app = create_app(
        engine,
        state,
        model_name=config.model_name,
        api_key=os.environ.get(config.api_key_env),
        max_body_bytes=config.max_body_bytes,
    )
    return await serve(
        app,
        state,
        engine,
        listener,
        on_ready=lambda: print(f"ready {url}", flush=True),
        drain_seconds=config.drain_seconds,
        shutdown_seconds=config.shutdown_seconds,
    )
