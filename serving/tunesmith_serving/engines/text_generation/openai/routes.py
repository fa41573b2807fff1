"""The routes of OpenAI's API, and vLLM's routes for tokens."""

import time

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from tunesmith_serving.engines.text_generation.batching.types import Batcher
from tunesmith_serving.engines.text_generation.openai.encoding import ApiTokenizer
from tunesmith_serving.engines.text_generation.openai.generate import Generator
from tunesmith_serving.engines.text_generation.openai.parameters import parse
from tunesmith_serving.engines.text_generation.openai.prompt import Template
from tunesmith_serving.engines.text_generation.openai.schema import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
)
from tunesmith_serving.engines.text_generation.openai.tokenization import detokenize, tokenize
from tunesmith_serving.http.context import ServerContext


def create_routes(
    batcher: Batcher, tokenizer: ApiTokenizer, template: Template | None, context: ServerContext
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
    card = {
        "id": context.model_name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "tunesmith",
        "max_model_len": batcher.context_length,
    }

    @router.get("/v1/models")
    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [card]})

    @router.get("/v1/models/{model:path}")
    async def one_model(model: str) -> JSONResponse:
        context.check_model(model)
        return JSONResponse(card)

    @router.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return await generator.respond(request, parse(ChatRequest, await context.read_json(request)))

    @router.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await generator.respond(request, parse(CompletionRequest, await context.read_json(request)))

    @router.post("/tokenize")
    async def token_ids(request: Request) -> JSONResponse:
        body = parse(TokenizeRequest, await context.read_json(request))
        context.check_model(body.model)
        return JSONResponse(await tokenize(body, tokenizer, template, batcher.context_length))

    @router.post("/detokenize")
    async def text(request: Request) -> JSONResponse:
        body = parse(DetokenizeRequest, await context.read_json(request))
        context.check_model(body.model)
        return JSONResponse(detokenize(body, tokenizer))

    return router
