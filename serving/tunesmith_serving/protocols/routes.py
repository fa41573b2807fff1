"""All protocols of a task's engine in one router."""

import time

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from tunesmith_serving.engines.predictor import Predictor
from tunesmith_serving.http.context import ServerContext
from tunesmith_serving.protocols import hugging_face, text_embeddings
from tunesmith_serving.protocols.kserve import routes as kserve


def create_task_routes(predictor: Predictor, context: ServerContext, *, models: bool = True) -> APIRouter:
    """Return the routes of the protocols that have a place for the engine's task.

    Args:
        predictor: Answers the inputs.
        context: The server.
        models: Whether `/v1/models` is among them; an engine with OpenAI's API has its own.
    """
    router = APIRouter()
    hugging_face.add_routes(router, predictor, context)
    kserve.add_routes(router, predictor, context)
    if predictor.card.task == "sequenceClassification":
        text_embeddings.add_routes(router, predictor, context)
    if models:
        _add_models(router, predictor, context)
    return router


def _add_models(router: APIRouter, predictor: Predictor, context: ServerContext) -> None:
    card = {
        "id": context.model_name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "tunesmith",
        "max_model_len": predictor.card.max_length,
        "task": predictor.card.task,
    }

    @router.get("/v1/models")
    async def list_models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [card]})

    @router.get("/v1/models/{model:path}")
    async def one_model(model: str) -> JSONResponse:
        context.check_model(model)
        return JSONResponse(card)
