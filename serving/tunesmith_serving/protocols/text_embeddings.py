"""The routes of text-embeddings-inference for classifiers: `/predict` and `/info`."""

from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from tunesmith_serving.engines.predictor import Predictor
from tunesmith_serving.http.body import CLIENT_LEFT, validate
from tunesmith_serving.http.context import ServerContext
from tunesmith_serving.http.errors import ApiError
from tunesmith_serving.protocols.answering import answer

INVALID = 422
_FORMS = "a string, [string], a pair [string, string], or a list of [string] and [string, string]"


class PredictBody(BaseModel):
    """The body of `/predict`.

    Attributes:
        inputs: A text, a pair of texts, or a batch of both.
        raw_scores: Whether logits are wanted instead of probabilities.
        truncate: Whether a text that is too long is cut off; it is, unless this is false.
        truncation_direction: The end at which it is cut off.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    inputs: Annotated[Any, Field(description="Text, pair of texts, or batch.")]
    raw_scores: bool = False
    truncate: bool | None = None
    truncation_direction: Literal["left", "right", "Left", "Right"] = "right"


def add_routes(router: APIRouter, predictor: Predictor, context: ServerContext) -> None:
    """Add `POST /predict` and `GET /info`."""

    @router.post("/predict")
    async def predict(request: Request) -> Response:
        try:
            body = validate(PredictBody, await context.read_json(request))
        except ApiError as error:
            error.status = INVALID if error.status == 400 else error.status
            raise
        inputs, single = texts_of(body.inputs)
        parameters: dict[str, Any] = {"truncation_direction": body.truncation_direction.lower()}
        if body.raw_scores:
            parameters["function_to_apply"] = "none"
        if body.truncate is not None:
            parameters["truncation"] = body.truncate
        answers = await answer(predictor, request, inputs, parameters, single=single, invalid=INVALID)
        if answers is None:
            return Response(status_code=CLIENT_LEFT)
        return JSONResponse(answers[0] if single else answers)

    @router.get("/info")
    async def info() -> JSONResponse:
        card = predictor.card
        labels = {str(index): label for index, label in enumerate(card.labels)}
        names = {label: index for index, label in enumerate(card.labels)}
        return JSONResponse(
            {
                "model_id": context.model_name,
                "model_sha": card.digest,
                "model_dtype": {"fp32": "float32"}.get(card.precision, card.precision),
                "model_type": {"classifier": {"id2label": labels, "label2id": names}},
                "max_concurrent_requests": card.max_inputs,
                "max_input_length": card.max_length,
                "max_batch_tokens": card.max_batch_size * card.max_length,
                "max_batch_requests": card.max_batch_size,
                "max_client_batch_size": card.max_inputs,
                "auto_truncate": True,
                "tokenization_workers": 1,
                "version": version("tunesmith"),
            }
        )


def texts_of(value: object) -> tuple[list[Any], bool]:
    """Return the inputs of a request, and whether they are one text or pair rather than a batch.

    Raises:
        ApiError: The value has none of the forms.
    """
    if isinstance(value, str):
        return [value], True
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return [_sequence(value, "inputs")], True
    if isinstance(value, list) and value:
        return [_sequence(item, f"inputs[{index}]") for index, item in enumerate(value)], False
    raise _wrong("inputs")


def _sequence(value: object, place: str) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value) or len(value) not in (1, 2):
        raise _wrong(place)
    return value[0] if len(value) == 1 else {"text": value[0], "text_pair": value[1]}


def _wrong(place: str) -> ApiError:
    return ApiError(INVALID, f"{place}: must be {_FORMS}", param=place, code="invalid_value")
