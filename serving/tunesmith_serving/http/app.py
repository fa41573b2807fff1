"""The FastAPI application: the engine's routes, health, readiness and metrics."""

import hmac
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith_api.contract import ADAPTERS_PATH, HEALTH_PATH, READY_PATH
from tunesmith_serving.engines.base import AdapterEngine, Engine
from tunesmith_serving.http.context import ServerContext
from tunesmith_serving.http.errors import ApiError, install_error_handlers
from tunesmith_serving.http.metrics import Metrics, RequestCounter, RouteLabels
from tunesmith_serving.http.state import ServerState

OPERATIONS_PATHS = (HEALTH_PATH, READY_PATH, "/metrics", ADAPTERS_PATH)


class OpenRequests:
    """ASGI middleware that counts requests to the engine until their last byte is sent, so that a shutdown can wait.

    Once the server is terminating, each response also closes its connection: the client's next request opens a new
    connection, to another server.
    """

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request and count it as open until its response has ended."""
        counted = scope["type"] == "http" and scope["path"] not in OPERATIONS_PATHS
        self._state.open_requests += counted

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._state.terminating:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        try:
            await self._app(scope, receive, closing)
        finally:
            self._state.open_requests -= counted


def create_app(
    engine: Engine,
    state: ServerState,
    *,
    model_name: str = "model",
    api_key: str | None = None,
    max_body_bytes: int = 4 << 20,
) -> FastAPI:
    """Return an application that serves one engine.

    Args:
        engine: Answers the requests to its routes.
        state: Shared with the code that starts and stops the server.
        model_name: The name that requests give in `model`.
        api_key: Required on the engine's routes as `Authorization: Bearer`; None or empty requires none.
        max_body_bytes: The largest body that is read.
    """
    app = FastAPI(title="Tunesmith", docs_url=None, redoc_url=None, openapi_url=None)
    metrics = Metrics(engine)
    names = engine.adapter_names if isinstance(engine, AdapterEngine) else tuple
    routes = engine.routes(ServerContext(model_name, state, metrics.registry, max_body_bytes, names))
    paths = [route.path for route in routes.routes if isinstance(route, APIRoute)]
    install_error_handlers(app, [path for path in paths if "{" not in path])
    app.add_middleware(OpenRequests, state=state)
    app.add_middleware(RequestCounter, metrics=metrics, labels=RouteLabels((*paths, *OPERATIONS_PATHS)))
    app.include_router(routes, dependencies=[Depends(_check_key(api_key))] if api_key else [])
    app.include_router(_operations_routes(engine, state, metrics))
    return app


def _operations_routes(engine: Engine, state: ServerState, metrics: Metrics) -> APIRouter:
    """Return the routes for probes and for Prometheus, which need no API key."""
    router = APIRouter()

    @router.get(HEALTH_PATH)
    async def healthz() -> JSONResponse:
        if engine.healthy:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "the engine has stopped; restart the server"}, 503)

    @router.get(READY_PATH)
    async def readyz() -> JSONResponse:
        if not engine.healthy:
            return JSONResponse({"status": "the engine has stopped"}, 503)
        if state.terminating or state.draining:
            return JSONResponse({"status": "shutting down"}, 503)
        return JSONResponse({"status": "ready"}) if state.ready else JSONResponse({"status": "warming up"}, 503)

    @router.get("/metrics")
    async def read_metrics() -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    if isinstance(engine, AdapterEngine):
        # The operator asks, which has no key.
        @router.get(ADAPTERS_PATH)
        async def adapters() -> JSONResponse:
            return JSONResponse(engine.adapter_report())

    return router


def _check_key(api_key: str) -> Callable[[Request], Awaitable[None]]:
    expected = f"Bearer {api_key}".encode()

    async def check(request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, expected):
            raise ApiError(
                401,
                "this server requires an API key; send it as Authorization: Bearer KEY",
                type="authentication_error",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    return check
