"""Hugging Face's task API: what `huggingface_hub.InferenceClient` calls (https://huggingface.co/tasks)."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from tunesmith_serving.engines.predictor import Predictor, StreamingPredictor
from tunesmith_serving.http.body import CLIENT_LEFT, validate
from tunesmith_serving.http.context import ServerContext
from tunesmith_serving.http.errors import ApiError
from tunesmith_serving.http.sse import EventStream, sse_data
from tunesmith_serving.protocols.answering import answer, predictor_errors, with_adapter


class TaskBody(BaseModel):
    """The body of a request.

    Attributes:
        inputs: One input, or a list of them.
        parameters: Parameters of the task.
        options: How Hugging Face's own servers queue and cache; ignored.
        stream: Whether the answer is wanted as it comes, with the events of text-generation-inference.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    inputs: Annotated[Any, Field(description="Input of the task.")]
    parameters: dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    stream: bool | None = None


def add_routes(router: APIRouter, predictor: Predictor, context: ServerContext) -> None:
    """Add `POST /` and `POST /models/NAME`."""

    async def respond(request: Request, adapter: str | None = None) -> Response:
        body = validate(TaskBody, await context.read_json(request))
        parameters = with_adapter(body.parameters or {}, adapter)
        single = not isinstance(body.inputs, list)
        if body.stream:
            return await _streamed(predictor, body.inputs, parameters, single)
        inputs = [body.inputs] if single else body.inputs
        answers = await answer(predictor, request, inputs, parameters, single=single)
        if answers is None:
            return Response(status_code=CLIENT_LEFT)
        return JSONResponse(arrange(predictor.card.task, answers, single))

    @router.post("/")
    async def root(request: Request) -> Response:
        return await respond(request)

    @router.post("/models/{model:path}")
    async def named(request: Request, model: str) -> Response:
        return await respond(request, context.check_model(model))


async def _streamed(predictor: Predictor, inputs: Any, parameters: Mapping[str, Any], single: bool) -> Response:  # noqa: ANN401
    if not isinstance(predictor, StreamingPredictor):
        raise ApiError(400, "stream: this model answers at once; leave it out", param="stream")
    if not single:
        raise ApiError(400, "stream: one answer comes at a time; give one input, not a list", param="stream")
    with predictor_errors(single):
        stream = await predictor.stream(inputs, parameters)
    return EventStream((sse_data(event) async for event in stream.events), stream.cancel)


def arrange(task: str, answers: list[Any], single: bool) -> Any:  # noqa: ANN401 - JSON
    """Return the response to a request.

    A classification answers with a list of lists even to one text, as InferenceClient expects it; a translation with
    one list of all texts; the other tasks with the answer to one input, or with the list of answers to several.
    """
    if task == "sequenceClassification":
        return answers
    if task == "translation":
        return [translation for given in answers for translation in given]
    return answers[0] if single else answers
