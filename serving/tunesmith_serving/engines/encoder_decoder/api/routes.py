"""The routes of a translation model."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from tunesmith_serving.engines.encoder_decoder.api.chat import SourceWriter, TranslationChat
from tunesmith_serving.engines.encoder_decoder.api.predictor import TranslationPredictor
from tunesmith_serving.engines.encoder_decoder.batching.batcher import TranslationBatcher
from tunesmith_serving.engines.encoder_decoder.text.source import SourceTokenizer
from tunesmith_serving.engines.predictor import ModelCard
from tunesmith_serving.engines.text_generation.openai.generate import Generator
from tunesmith_serving.engines.text_generation.openai.models import add_models
from tunesmith_serving.engines.text_generation.openai.parameters import parse
from tunesmith_serving.engines.text_generation.openai.timing import TokenMetrics
from tunesmith_serving.http.context import ServerContext
from tunesmith_serving.protocols.routes import create_task_routes
from tunesmith_serving.runtime.retry import RetryEstimator


def create_routes(
    batcher: TranslationBatcher, tokenizer: SourceTokenizer, card: ModelCard, context: ServerContext
) -> APIRouter:
    """Return `/v1/models`, `/v1/chat/completions` and the routes of the protocols of tasks.

    Args:
        batcher: Translates.
        tokenizer: The model's tokenizer.
        card: What the model is.
        context: The server.
    """
    router = APIRouter()
    metrics, retry = TokenMetrics(context.metrics), RetryEstimator()
    generator = Generator(batcher, SourceWriter(tokenizer), tokenizer.token_bytes, context, metrics, retry)
    add_models(router, context, card.max_length)

    @router.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return await generator.respond(request, parse(TranslationChat, await context.read_json(request)))

    predictor = TranslationPredictor(batcher, card, tokenizer, retry, metrics.timer)
    router.include_router(create_task_routes(predictor, context, models=False))
    return router
