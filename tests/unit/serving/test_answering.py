"""What the protocols do while a predictor works, and when it refuses."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from tunesmith_serving.engines.base import EngineFailedError
from tunesmith_serving.engines.predictor import (
    DrainingError,
    InvalidInputError,
    ModelCard,
    QueueFullError,
    TooManyInputsError,
)
from tunesmith_serving.http.context import ServerContext
from tunesmith_serving.http.errors import install_error_handlers
from tunesmith_serving.http.state import ServerState
from tunesmith_serving.protocols.routes import create_task_routes


class Predictor:
    """Answers with what it is told to, or never."""

    card = ModelCard("sequenceClassification", "fp32", 64, 8, 8, ("a", "b"), "single_label_classification")

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked = asyncio.Event()
        self.cancelled = False

    async def predict(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
        self.asked.set()
        if self.error is not None:
            raise self.error
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return []

    def prompt_ids(self, value: Any, parameters: Mapping[str, Any]) -> list[int]:
        return []


def app_of(predictor: Predictor) -> FastAPI:
    app = FastAPI()
    install_error_handlers(app, [])
    context = ServerContext("model", ServerState(ready=True), CollectorRegistry())
    app.include_router(create_task_routes(predictor, context))
    return app


V2 = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
BODIES = {"/": {"inputs": "a"}, "/predict": {"inputs": "a"}, "/v2/models/model/infer": V2}


@pytest.mark.parametrize("path", BODIES)
def test_a_client_that_leaves_cancels_its_inputs(path: str) -> None:
    async def run() -> bool:
        predictor = Predictor()
        body = json.dumps(BODIES[path]).encode()
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            if messages:
                return messages.pop(0)
            await predictor.asked.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "app": None}
        answering = asyncio.ensure_future(app_of(predictor)(scope, receive, send))
        ended, _ = await asyncio.wait([answering], timeout=300)
        assert ended, "the inputs of a client that has left are still computed"
        assert sent[0]["status"] == 499
        return predictor.cancelled

    assert asyncio.run(run())


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidInputError("is wrong", "inputs", 0), None, "Validation"),
        (InvalidInputError("is wrong", "parameters", "top_k"), None, "Validation"),
        (TooManyInputsError(99, 16), 413, "Validation"),
        (QueueFullError("the queue is full", 7), 429, "Overloaded"),
        (DrainingError(), 503, "Unhealthy"),
        (EngineFailedError("the engine failed"), 500, "Backend"),
    ],
)
def test_refusals_have_a_status_and_each_protocols_form(path: str, error: Exception, status: int, kind: str) -> None:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app_of(Predictor(error)))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.post(path, json=BODIES[path])

    answer = asyncio.run(run())
    assert answer.status_code == (status or (422 if path == "/predict" else 400))
    body = answer.json()
    assert body.get("error_type") == (kind if path == "/predict" else None)
    assert str(error) in body["error"]
    if isinstance(error, InvalidInputError):
        place = {"inputs": "inputs", "parameters": "parameters.top_k"}[str(error.where[0])]
        place = "inputs[0]" if place == "inputs" and path.startswith("/v2") else place
        assert body["error"] == f"{place}: is wrong"
    assert answer.headers.get("Retry-After") == {429: "7", 503: "5"}.get(answer.status_code)
