"""The routes of OpenAI's API."""

import time

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from tunesmith_serving.engines.text_generation.batching.types import Batcher
from tunesmith_serving.engines.text_generation.openai.generate import Generator, TextEncoder
from tunesmith_serving.engines.text_generation.openai.parameters import parse
from tunesmith_serving.engines.text_generation.openai.prompt import Template
from tunesmith_serving.engines.text_generation.openai.schema import ChatRequest, CompletionRequest
from tunesmith_serving.http.context import ServerContext
from tunesmith_serving.http.errors import ApiError


def create_routes(
    batcher: Batcher, tokenizer: TextEncoder, template: Template | None, context: ServerContext
) -> APIRouter:
    """Return the routes.

    Args:
        batcher: Generates the tokens.
        tokenizer: The model's tokenizer.
        template: The model's chat template; without one, chat requests are refused.
        context: The server.
    """
    router = APIRouter()
    generator = Generator(batcher, tokenizer, template, context)
    card = {"id": context.model_name, "object": "model", "created": int(time.time()), "owned_by": "tunesmith"}

    @router.get("/models")
    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [card]})

    @router.get("/models/{model:path}")
    async def one_model(model: str) -> JSONResponse:
        if model != context.model_name:
            raise ApiError(404, f"the model {model!r} does not exist", param="model", code="model_not_found")
        return JSONResponse(card)

    @router.post("/chat/completions")
    async def chat(request: Request) -> Response:
        return await generator.respond(request, parse(ChatRequest, await context.read_json(request)))

    @router.post("/completions")
    async def completions(request: Request) -> Response:
        return await generator.respond(request, parse(CompletionRequest, await context.read_json(request)))

    return router
