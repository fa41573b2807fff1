"""The FastAPI application."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith_serving.http.body import parse, read_json
from tunesmith_serving.http.errors import ApiError, install_error_handlers, unavailable
from tunesmith_serving.http.generate import Generator
from tunesmith_serving.http.metrics import Metrics, RequestCounter
from tunesmith_serving.http.schema import ChatRequest, CompletionRequest
from tunesmith_serving.http.state import ServedModel, ServerState


class OpenRequests:
    """ASGI middleware that counts requests of /v1 until their last byte is sent, so that a shutdown can wait.

    Once the server is leaving, each answer also ends its connection: the next request opens another one, to a server
    that stays.
    """

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, counting."""
        counted = scope["type"] == "http" and scope["path"].startswith("/v1/")
        self._state.open_requests += counted

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._state.leaving:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        try:
            await self._app(scope, receive, closing)
        finally:
            self._state.open_requests -= counted


def create_app(
    model: ServedModel, state: ServerState, *, api_key: str | None = None, max_body_bytes: int = 4 << 20
) -> FastAPI:
    """An application that serves one model.

    Args:
        model: What is served.
        state: Shared with whoever starts and stops the server.
        api_key: Asked for on /v1 as `Authorization: Bearer`; None or empty asks for none.
        max_body_bytes: Largest body that is read.
    """
    app = FastAPI(title="Tunesmith", docs_url=None, redoc_url=None, openapi_url=None)
    metrics = Metrics(model.engine)
    generator = Generator(model, state, metrics)
    install_error_handlers(app)
    app.add_middleware(OpenRequests, state=state)
    app.add_middleware(RequestCounter, metrics=metrics)
    guard = [Depends(_check_key(api_key))] if api_key else []

    async def answer(request: Request, kind: type[ChatRequest] | type[CompletionRequest]) -> Response:
        if state.draining:
            raise unavailable("the server is shutting down; try again")
        return await generator.answer(request, parse(kind, await read_json(request, max_body_bytes)))

    @app.post("/v1/chat/completions", dependencies=guard)
    async def chat(request: Request) -> Response:
        return await answer(request, ChatRequest)

    @app.post("/v1/completions", dependencies=guard)
    async def completions(request: Request) -> Response:
        return await answer(request, CompletionRequest)

    @app.get("/v1/models", dependencies=guard)
    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [_model_card(model)]})

    @app.get("/v1/models/{name:path}", dependencies=guard)
    async def one_model(name: str) -> JSONResponse:
        if name != model.name:
            raise ApiError(404, f"there is no model {name!r} here", param="model", code="model_not_found")
        return JSONResponse(_model_card(model))

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        if model.engine.healthy:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "the engine has stopped; restart the server"}, 503)

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        if not model.engine.healthy:
            return JSONResponse({"status": "the engine has stopped"}, 503)
        if state.leaving or state.draining:
            return JSONResponse({"status": "shutting down"}, 503)
        return JSONResponse({"status": "ready"}) if state.ready else JSONResponse({"status": "warming up"}, 503)

    @app.get("/metrics")
    async def read_metrics() -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return app


def _check_key(api_key: str) -> Callable[[Request], Awaitable[None]]:
    expected = f"Bearer {api_key}".encode()

    async def check(request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, expected):
            raise ApiError(
                401,
                "this server asks for its API key; send it as Authorization: Bearer KEY",
                type="authentication_error",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    return check


def _model_card(model: ServedModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "tunesmith"}
