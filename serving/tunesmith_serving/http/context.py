"""The part of the server that an engine's routes use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from prometheus_client import CollectorRegistry

from tunesmith_serving.http.body import parse_json, read_bytes
from tunesmith_serving.http.errors import ApiError, unavailable
from tunesmith_serving.http.state import ServerState

MOST_NAMED = 50
"""Adapters that an error names, at most."""


@dataclass(frozen=True)
class ServerContext:
    """The server, as an engine's routes see it.

    Attributes:
        model_name: The name that requests give in `model`.
        state: The server's state.
        metrics: The registry behind `/metrics`, for metrics of requests.
        max_body_bytes: The largest body that is read.
        adapter_names: Returns the names of the adapters that are served beside the model now.
    """

    model_name: str
    state: ServerState
    metrics: CollectorRegistry
    max_body_bytes: int = 4 << 20
    adapter_names: Callable[[], Sequence[str]] = tuple

    def check_model(self, name: str | None) -> str | None:
        """Check the model's name in a request; None stands for the model that is served.

        Returns:
            The name of the adapter that is asked for; None if it is the model itself.

        Raises:
            ApiError: The server does not serve this model.
        """
        if name is None or name == self.model_name:
            return None
        adapters = self.adapter_names()
        if name in adapters:
            return name
        served = ", ".join(map(repr, (self.model_name, *adapters[:MOST_NAMED])))
        more = f" and {len(adapters) - MOST_NAMED} more" if len(adapters) > MOST_NAMED else ""
        raise ApiError(
            404,
            f"the model {name!r} does not exist; this server serves {served}{more}",
            param="model",
            code="model_not_found",
        )

    async def read_json(self, request: Request) -> dict[str, Any]:
        """Return the body of a request to the model.

        Raises:
            ApiError: The server is draining, or the body is too large or not a JSON object.
        """
        return parse_json(await self.read_bytes(request))

    async def read_bytes(self, request: Request) -> bytes:
        """Return the body of a request to the model as it came.

        Raises:
            ApiError: The server is draining, or the body is too large or compressed.
        """
        if self.state.draining:
            raise unavailable("the server is shutting down; try again")
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise ApiError(415, f"the body is compressed with {encoding}; send it as it is", code="invalid_encoding")
        return await read_bytes(request, self.max_body_bytes)
