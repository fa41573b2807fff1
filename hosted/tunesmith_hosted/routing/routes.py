"""`/v1/chat/completions`, `/v1/completions` and `/v1/responses`. `Shortcut` calls them with the request alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from fastapi import APIRouter, FastAPI, Request, Response

from tunesmith_hosted.http.caller import allowed, caller_of
from tunesmith_hosted.routing.answers import Api
from tunesmith_hosted.routing.gateway import Gateway
from tunesmith_hosted.routing.upstream import connections

_check = allowed("inference")


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with connections() as session:
        gateway = app.state.gateway = Gateway(app.state.context, session)
        writing = asyncio.create_task(gateway.accounting.run())
        try:
            yield
        finally:
            writing.cancel()
            with suppress(asyncio.CancelledError):
                await writing
            await gateway.accounting.flush()


router = APIRouter(prefix="/v1", lifespan=_lifespan)


def _body(*required: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["model", *required],
        "properties": {"model": {"type": "string"}, "stream": {"type": "boolean"}},
    }
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post("/chat/completions", openapi_extra=_body("messages"))
async def chat(request: Request) -> Response:
    """Answer a conversation."""
    return await _answer(request, "chat/completions")


@router.post("/completions", openapi_extra=_body("prompt"))
async def completions(request: Request) -> Response:
    """Continue a text."""
    return await _answer(request, "completions")


@router.post("/responses", openapi_extra=_body("input"))
async def responses(request: Request) -> Response:
    """Answer by the Responses API; nothing is stored."""
    return await _answer(request, "responses")


async def _answer(request: Request, api: Api) -> Response:
    caller = _check(caller_of(request))
    return await cast(Gateway, request.app.state.gateway).answer(request, caller, api)
