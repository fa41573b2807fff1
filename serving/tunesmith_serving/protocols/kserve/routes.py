"""The routes below `/v2`: health, metadata and inference."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from tunesmith_serving.engines.predictor import ModelCard, Predictor
from tunesmith_serving.http.body import CLIENT_LEFT, parse_json, validate
from tunesmith_serving.http.context import ServerContext
from tunesmith_serving.http.errors import ApiError
from tunesmith_serving.protocols.answering import answer, with_adapter
from tunesmith_serving.protocols.kserve.binary import HEADER, json_length, write_elements
from tunesmith_serving.protocols.kserve.schema import InferRequest
from tunesmith_serving.protocols.kserve.tensors import OutputTensor, inputs_of, metadata_of, outputs_of

VERSION = "1"
"""The version of every model: another artifact is another server's."""

# What clients send about the way of a request, which changes no answer.
_IGNORED = frozenset(
    {"binary_data_output", "sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "content_type"}
)


def add_routes(router: APIRouter, predictor: Predictor, context: ServerContext) -> None:
    """Add the routes."""
    outputs = outputs_of(predictor.card)

    def check(model: str, number: str = VERSION) -> str | None:
        adapter = context.check_model(model)
        if number != VERSION:
            raise ApiError(
                404, f"the model {model!r} has no version {number!r}, only {VERSION}", code="model_not_found"
            )
        return adapter

    async def infer(request: Request, model: str, adapter: str | None) -> Response:
        raw = await context.read_bytes(request)
        length = json_length(request.headers.get(HEADER), len(raw))
        body = validate(InferRequest, parse_json(raw[:length]))
        inputs = inputs_of(predictor.card.task, body.inputs, raw[length:])
        wanted = _wanted(body, outputs)
        given = {key: value for key, value in body.parameters.items() if key not in _IGNORED}
        parameters = with_adapter(given, adapter)
        answers = await answer(predictor, request, inputs, parameters)
        if answers is None:
            return Response(status_code=CLIENT_LEFT)
        head = {"model_name": model, "model_version": VERSION}
        return _response(head if body.id is None else {**head, "id": body.id}, wanted, answers)

    def ready() -> bool:
        return context.state.ready and not context.state.terminating and not context.state.draining

    _add_health(router, ready, predictor.card, check)

    @router.post("/v2/models/{model}/infer")
    async def infer_newest(request: Request, model: str) -> Response:
        return await infer(request, model, check(model))

    @router.post("/v2/models/{model}/versions/{number}/infer")
    async def infer_version(request: Request, model: str, number: str) -> Response:
        return await infer(request, model, check(model, number))


def _add_health(router: APIRouter, ready: Any, card: ModelCard, check: Any) -> None:  # noqa: ANN401
    @router.get("/v2")
    async def server() -> JSONResponse:
        return JSONResponse(
            {"name": "tunesmith", "version": version("tunesmith"), "extensions": ["binary_tensor_data"]}
        )

    @router.get("/v2/health/live")
    async def live() -> JSONResponse:
        return JSONResponse({"live": True})

    @router.get("/v2/health/ready")
    async def is_ready() -> JSONResponse:
        return JSONResponse({"ready": ready()}, 200 if ready() else 503)

    @router.get("/v2/models/{model}")
    async def metadata(model: str) -> JSONResponse:
        check(model)
        return JSONResponse(metadata_of(card, model))

    @router.get("/v2/models/{model}/versions/{number}")
    async def metadata_of_version(model: str, number: str) -> JSONResponse:
        check(model, number)
        return JSONResponse(metadata_of(card, model))

    @router.get("/v2/models/{model}/ready")
    async def model_ready(model: str) -> JSONResponse:
        check(model)
        return JSONResponse({"name": model, "ready": ready()}, 200 if ready() else 503)

    @router.get("/v2/models/{model}/versions/{number}/ready")
    async def version_ready(model: str, number: str) -> JSONResponse:
        check(model, number)
        return JSONResponse({"name": model, "ready": ready()}, 200 if ready() else 503)


def _wanted(body: InferRequest, outputs: dict[str, OutputTensor]) -> list[tuple[OutputTensor, bool]]:
    """Return the outputs that a request asks for, each with whether it is wanted as binary data."""
    binary = body.parameters.get("binary_data_output", False)
    if not body.outputs:
        return [(output, bool(binary)) for output in outputs.values()]
    found = []
    for asked in body.outputs:
        if asked.name not in outputs:
            raise ApiError(400, f"outputs.{asked.name}: does not exist; this model has {', '.join(outputs)}")
        if "classification" in asked.parameters:
            raise ApiError(
                400, f"outputs.{asked.name}: classification is not served; the output {asked.name} has labels"
            )
        found.append((outputs[asked.name], bool(asked.parameters.get("binary_data", binary))))
    return found


def _response(head: dict[str, Any], wanted: Sequence[tuple[OutputTensor, bool]], answers: Sequence[Any]) -> Response:
    tensors, binary = [], []
    for output, as_binary in wanted:
        values = [value for given in answers for value in output.values(given)]
        tensor: dict[str, Any] = {
            "name": output.name,
            "shape": output.shape(len(answers)),
            "datatype": output.datatype,
        }
        if as_binary:
            binary.append(write_elements(output.datatype, values))
            tensor["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            tensor["data"] = values
        tensors.append(tensor)
    body = {**head, "outputs": tensors}
    if not binary:
        return JSONResponse(body)
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return Response(b"".join((text, *binary)), media_type="application/octet-stream", headers={HEADER: str(len(text))})
