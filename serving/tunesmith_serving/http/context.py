"""The part of the server that an engine's routes use."""

from dataclasses import dataclass
from typing import Any

from fastapi import Request
from prometheus_client import CollectorRegistry

from tunesmith_serving.http.body import parse_json, read_bytes
from tunesmith_serving.http.errors import ApiError, unavailable
from tunesmith_serving.http.state import ServerState


@dataclass(frozen=True)
class ServerContext:
    """The server, as an engine's routes see it.

    Attributes:
        model_name: The name that requests give in `model`.
        state: The server's state.
        metrics: The registry behind `/metrics`, for metrics of requests.
        max_body_bytes: The largest body that is read.
    """

    model_name: str
    state: ServerState
    metrics: CollectorRegistry
    max_body_bytes: int = 4 << 20

    def check_model(self, name: str | None) -> None:
        """Check the model's name in a request; None stands for the model that is served.

        Raises:
            ApiError: The server does not serve this model.
        """
        if name is not None and name != self.model_name:
            raise ApiError(
                404,
                f"the model {name!r} does not exist; this server serves {self.model_name!r}",
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
