"""The application: all rooms' routes over one context."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy import select
from sqlalchemy.exc import DataError, SQLAlchemyError
from starlette.exceptions import HTTPException

from tunesmith_hosted.console import pages
from tunesmith_hosted.console.sign_in.sessions import SessionCallers
from tunesmith_hosted.http.authentication import Authentication
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.http.errors import ApiError
from tunesmith_hosted.http.idempotency import Idempotency
from tunesmith_hosted.http.metrics import Metrics
from tunesmith_hosted.http.observation import Observation
from tunesmith_hosted.process.routers import ROUTERS
from tunesmith_hosted.routing import routes as routing
from tunesmith_hosted.routing.shortcut import Shortcut
from tunesmith_hosted.tenants.callers import Callers
from tunesmith_hosted.tenants.rates.limiter import RateLimiter
from tunesmith_hosted.tenants.rates.middleware import RateLimits

_READY_SECONDS = 4.0


def create_app(context: Context, console: Path | None = None) -> FastAPI:
    """Return the application over a context. Its reconciler is started by `process.run`.

    Args:
        context: The service.
        console: The built console; by default that of the checkout, or else the package's own.
    """
    app = FastAPI(title="Tunesmith", docs_url=None, redoc_url=None, openapi_url="/openapi.json", redirect_slashes=False)
    app.state.context = context
    app.state.callers = callers = Callers(context.sessions)
    app.state.metrics = metrics = Metrics()
    # The last is the outermost.
    app.add_middleware(Shortcut, router=routing.router)
    app.add_middleware(Idempotency, sessions=context.sessions)
    limiter = RateLimiter(context.sessions, context.now)
    app.add_middleware(RateLimits, limiter=limiter, defaults=context.settings.quotas)
    people = SessionCallers(context.settings, context.sessions)
    app.add_middleware(Authentication, find_caller=callers.find, find_session=people.find)
    app.add_middleware(Observation, metrics=metrics)
    for router in ROUTERS:
        app.include_router(router)
    _answer_errors(app)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        """Whether the database answers: no request can be without it."""
        try:
            async with asyncio.timeout(_READY_SECONDS), context.sessions() as session:
                await session.execute(select(1))
        except (SQLAlchemyError, TimeoutError, OSError):
            return JSONResponse({"status": "the database does not answer"}, 503)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", include_in_schema=False)
    async def show_metrics(request: Request) -> Response:
        # An ingress says for whom it asks; Prometheus does not. Metrics are for the cluster alone.
        if "x-forwarded-for" in request.headers:
            raise HTTPException(404)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    app.mount(pages.PATH, pages.console_files(console))
    return app


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def wrong_request(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            message = f"The body is not valid JSON: {first.get('ctx', {}).get('error', first['msg'])}"
            return ApiError(400, message, code="invalid_json").response()
        field = ".".join(str(part) for part in first["loc"][1:])
        code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
        message = f"{field}: {first['msg']}" if field else first["msg"]
        return ApiError(400, message, param=field or None, code=code).response()

    @app.exception_handler(DataError)
    @app.exception_handler(OverflowError)
    @app.exception_handler(UnicodeEncodeError)
    async def unstorable(request: Request, error: Exception) -> JSONResponse:
        message = "A value cannot be stored: a character such as NUL, half of a surrogate pair, or a number too large"
        return ApiError(400, message, code="invalid_value").response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        method, path, headers = request.method, request.url.path, dict(error.headers or {})
        if error.status_code == 404:
            return ApiError(404, f"Invalid URL ({method} {path})").response()
        if error.status_code == 405:
            message = f"Not allowed to {method} on {path}; allowed: {headers.get('Allow', 'nothing')}"
            return ApiError(405, message, code="method_not_supported", headers=headers).response()
        return ApiError(error.status_code, str(error.detail), headers=headers).response()
