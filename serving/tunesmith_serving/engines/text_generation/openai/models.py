"""`/v1/models`: the model and the adapters that are served beside it."""

import time
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from tunesmith_serving.engines.text_generation.adapters.store import AdapterStore
from tunesmith_serving.http.context import ServerContext


def add_models(
    router: APIRouter, context: ServerContext, context_length: int, adapters: AdapterStore | None = None
) -> None:
    """Add `GET /v1/models` and `GET /v1/models/NAME`, with the fields that vLLM gives a model and an adapter.

    Args:
        router: Gets the routes.
        context: The server.
        context_length: The most tokens of prompt and answer together.
        adapters: The adapters; each one's `parent` is the model.
    """
    started = int(time.time())
    store = adapters or AdapterStore()

    def card(name: str, created: int, root: str, parent: str | None) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "tunesmith",
            "root": root,
            "parent": parent,
            "max_model_len": context_length,
        }

    def cards() -> dict[str, dict[str, Any]]:
        base = context.model_name
        loaded = [card(found.name, found.created, found.source, base) for found in store.loaded()]
        return {found["id"]: found for found in (card(base, started, base, None), *loaded)}

    @router.get("/v1/models")
    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": list(cards().values())})

    @router.get("/v1/models/{model:path}")
    async def one_model(model: str) -> JSONResponse:
        found = cards().get(model)
        if found is None:
            context.check_model(model)
        return JSONResponse(found)
