"""The application: all rooms' routes over one context."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from tunesmith_hosted.http.authentication import authentication
from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.http.errors import ApiError
from tunesmith_hosted.process.routers import ROUTERS
from tunesmith_hosted.tenants.keys import find_caller


def create_app(context: Context) -> FastAPI:
    """Return the application over a context. Its reconciler is started by `process.run`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield

    app = FastAPI(title="Tunesmith", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    app.state.context = context

    async def caller_by_key(key: str) -> Caller | None:
        async with context.sessions() as session:
            return await find_caller(session, key)

    app.middleware("http")(authentication(caller_by_key))
    for router in ROUTERS:
        app.include_router(router)

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def wrong_request(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        message = f"{field}: {first['msg']}" if field else first["msg"]
        return ApiError(400, message, param=field or None, code="invalid_value").response()

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app
