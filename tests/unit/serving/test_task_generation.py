"""Text generation in Hugging Face's task API: what becomes of a grammar that fails while an answer follows it."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tunesmith_serving.engines.predictor import InvalidInputError, ModelCard
from tunesmith_serving.engines.text_generation.batching.types import Event, EventSink, GenerationRequest
from tunesmith_serving.engines.text_generation.task_api.generation import TextPredictor

MESSAGE = "the grammar is too complex; use smaller bounds"
GRAMMAR = {"grammar": {"type": "regex", "value": "a"}}


class FailingBatcher:
    """Ends each request after a token, as one whose grammar has become too complex."""

    context_length = 64

    def submit_all(self, requests: Sequence[tuple[GenerationRequest, EventSink]]) -> list[Any]:
        for request, sink in requests:
            assert request.constraint == "compiled"
            sink(Event("a", (1,)))
            sink(Event("", finish_reason="error", error=MESSAGE, by_request=True))
        return [SimpleNamespace(cancel=lambda: None) for _ in requests]


class OneToken:
    """A tokenizer of one token."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [1]

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return "a"


class Compiler:
    """Takes every grammar."""

    async def compile(self, grammar: object) -> Any:
        return "compiled"


@pytest.fixture
def predictor() -> TextPredictor:
    card = ModelCard(
        task="textGeneration", precision="fp32", max_length=64, max_batch_size=2, max_queue_length=2, digest=None
    )
    return TextPredictor(FailingBatcher(), card, OneToken(), frozenset(), Compiler())  # type: ignore[arg-type]


def test_an_answer_ends_with_an_error_of_the_request(predictor: TextPredictor) -> None:
    with pytest.raises(InvalidInputError, match="too complex") as caught:
        asyncio.run(predictor.predict(["a", "b"], GRAMMAR))
    assert caught.value.where == ("parameters", "grammar")


def test_a_stream_ends_with_it(predictor: TextPredictor) -> None:
    async def events() -> list[dict[str, Any]]:
        return [event async for event in (await predictor.stream("a", GRAMMAR)).events]

    assert asyncio.run(events())[-1] == {"error": MESSAGE, "error_type": "validation"}


def test_the_engine_loads_without_what_only_a_server_has() -> None:
    """The publish stage answers with an export by the server's code, in the trainer's image."""
    absent = ("fastapi", "llguidance", "uvicorn")
    hide = f"import sys; sys.modules.update(dict.fromkeys({absent}))"
    code = f"{hide}; import tunesmith_serving.engines.text_generation.engine"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
