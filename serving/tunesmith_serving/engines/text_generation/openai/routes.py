"""The routes of OpenAI's API, and vLLM's routes for tokens."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from tunesmith_serving.engines.text_generation.adapters.store import AdapterStore
from tunesmith_serving.engines.text_generation.batching.types import Batcher
from tunesmith_serving.engines.text_generation.openai.encoding import ApiTokenizer
from tunesmith_serving.engines.text_generation.openai.generate import Generator
from tunesmith_serving.engines.text_generation.openai.models import add_models
from tunesmith_serving.engines.text_generation.openai.parameters import parse
from tunesmith_serving.engines.text_generation.openai.prompt import Template
from tunesmith_serving.engines.text_generation.openai.responses_api.respond import Responder
from tunesmith_serving.engines.text_generation.openai.schema import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
)
from tunesmith_serving.engines.text_generation.openai.timing import TokenMetrics
from tunesmith_serving.engines.text_generation.openai.tokenization import detokenize, tokenize
from tunesmith_serving.engines.text_generation.openai.writing import PromptWriter
from tunesmith_serving.engines.text_generation.structured.compiler import GrammarCompiler
from tunesmith_serving.http.context import ServerContext
from tunesmith_serving.runtime.retry import RetryEstimator


def create_routes(
    batcher: Batcher,
    tokenizer: ApiTokenizer,
    template: Template | None,
    compiler: GrammarCompiler,
    context: ServerContext,
    metrics: TokenMetrics,
    retry: RetryEstimator,
    adapters: AdapterStore | None = None,
) -> APIRouter:
    """Return the routes.

    Args:
        batcher: Generates the tokens.
        tokenizer: The model's tokenizer.
        template: The model's chat template; without one, chat requests are refused.
        compiler: Compiles what answers must be.
        context: The server.
        metrics: Histograms of how fast tokens come.
        retry: How long clients should wait when the queue is full.
        adapters: The adapters that are served beside the model.
    """
    router = APIRouter()
    writer = PromptWriter(tokenizer, template, compiler)
    generator = Generator(batcher, writer, tokenizer.token_bytes, context, metrics, retry)
    responder = Responder(generator, tokenizer.token_bytes)
    add_models(router, context, batcher.context_length, adapters)

    @router.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return await generator.respond(request, parse(ChatRequest, await context.read_json(request)))

    @router.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await generator.respond(request, parse(CompletionRequest, await context.read_json(request)))

    @router.post("/v1/responses")
    async def responses(request: Request) -> Response:
        return await responder.respond(request, await context.read_json(request))

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
