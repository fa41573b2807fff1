"""A batcher behind the interface of the protocols: what the tasks of its engines have in common."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.engines import predictor
from tunesmith_serving.engines.base import EngineFailedError
from tunesmith_serving.engines.predictor import InvalidInputError, ModelCard, TooManyInputsError
from tunesmith_serving.engines.text_generation.adapters.errors import UnknownAdapterError
from tunesmith_serving.engines.text_generation.batching.bridge import Bridge, Generation
from tunesmith_serving.engines.text_generation.batching.types import (
    Batcher,
    DrainingError,
    Event,
    FinishReason,
    GenerationRequest,
    InvalidRequestError,
    QueueFullError,
    TokenLogprob,
    TooManyRequestsError,
)
from tunesmith_serving.runtime.config import ServingConfig
from tunesmith_serving.runtime.retry import RetryEstimator

LONG_TEXT = 20_000
"""Longer texts are tokenised on another thread, so that they do not hold up other requests."""


class Timer(Protocol):
    """Times the tokens of one answer."""

    def record(self, event: Event) -> None:
        """Record one event."""


TimerOf = Callable[[float], Timer]
"""Returns a timer for an answer to a request that arrived at this time."""


class Collected:
    """The answer to one request.

    Attributes:
        text: Its text.
        token_ids: Its tokens, with the one that ended it.
        logprobs: Log probabilities of the tokens, if they were asked for.
        finish_reason: Why it has ended.
    """

    def __init__(self) -> None:
        self.text = ""
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.finish_reason: FinishReason | None = None

    def add(self, event: Event) -> None:
        """Add an event.

        Raises:
            InvalidInputError: The grammar of the request has become too complex.
            EngineFailedError: The generation has failed.
        """
        if event.finish_reason == "error" and event.by_request:
            raise InvalidInputError(event.error or "is too complex", "parameters", "grammar")
        if event.finish_reason == "error":
            raise EngineFailedError(event.error or "the generation failed")
        self.text += event.text
        self.token_ids += event.token_ids
        self.logprobs += event.logprobs
        self.finish_reason = event.finish_reason


class GenerationPredictor(ABC):
    """Answers inputs by generating; a subclass says what the model reads and what an answer looks like."""

    def __init__(
        self,
        batcher: Batcher,
        card: ModelCard,
        retry: RetryEstimator | None = None,
        timer: TimerOf | None = None,
    ) -> None:
        """Take the batcher.

        Args:
            batcher: Generates the tokens.
            card: What the model is.
            retry: How long clients should wait when the queue is full.
            timer: Returns a timer for an answer to a request that arrived at this time.
        """
        self._batcher = batcher
        self._bridge = Bridge(batcher)
        self._retry = retry or RetryEstimator()
        self._timer = timer
        self.card = card

    @abstractmethod
    def request(self, value: Any, parameters: Mapping[str, Any], index: int = 0) -> GenerationRequest:  # noqa: ANN401
        """Return the request for an input, which is the `index`-th of several.

        Raises:
            InvalidInputError: The input or a parameter is wrong.
        """

    @abstractmethod
    def answer(self, value: Any, parameters: Mapping[str, Any], found: Collected) -> Any:  # noqa: ANN401 - JSON
        """Return the answer to an input in the form of the task API."""

    async def predict(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
        """Return the answer to each input; see `Predictor.predict`."""
        arrived = time.perf_counter()
        requests = await self.requests(inputs, parameters)
        generation = self.submit(requests)
        timers = [self._timer(arrived) for _ in requests] if self._timer else []
        answers = [Collected() for _ in requests]
        try:
            async for events in generation.batches():
                for index, event in events:
                    answers[index].add(event)
                    if timers:
                        timers[index].record(event)
        except (asyncio.CancelledError, EngineFailedError, InvalidInputError):
            generation.cancel()
            raise
        self._retry.finished(time.perf_counter() - arrived)
        return [self.answer(value, parameters, found) for value, found in zip(inputs, answers, strict=True)]

    def prompt_ids(self, value: Any, parameters: Mapping[str, Any]) -> list[int]:  # noqa: ANN401 - JSON
        """Return the token ids that the model gets of one input.

        Raises:
            InvalidInputError: The input or a parameter is wrong.
        """
        return list(self.request(value, parameters).prompt_ids)

    async def requests(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[GenerationRequest]:
        """Return the request for each input.

        Raises:
            InvalidInputError: An input or a parameter is wrong.
            TooManyInputsError: These inputs would not fit in an empty queue.
        """
        if len(inputs) > self.card.max_inputs:
            raise TooManyInputsError(len(inputs), self.card.max_inputs)
        if not inputs:
            raise InvalidInputError("must not be empty", "inputs")

        def make() -> list[GenerationRequest]:
            return [self.request(value, parameters, index) for index, value in enumerate(inputs)]

        if sum(len(value) for value in inputs if isinstance(value, str)) < LONG_TEXT:
            return make()
        return await asyncio.to_thread(make)

    def submit(self, requests: Sequence[GenerationRequest]) -> Generation:
        """Hand requests to the batcher; its errors become those of a predictor."""
        try:
            return self._bridge.submit(requests)
        except InvalidRequestError as error:
            raise InvalidInputError(str(error), "inputs", error.index) from None
        except UnknownAdapterError as error:
            raise InvalidInputError(f"{error}; /v1/models lists what is", "parameters", "adapter_id") from None
        except TooManyRequestsError:
            raise TooManyInputsError(len(requests), self.card.max_inputs) from None
        except QueueFullError:
            stats = self._batcher.stats()
            wait = self._retry.retry_after(stats.queue_length, stats.slots)
            raise predictor.QueueFullError(stats.load, wait) from None
        except DrainingError:
            raise predictor.DrainingError from None


def text_of(value: object, index: int) -> str:
    """Return an input that must be a text.

    Raises:
        InvalidInputError: It is none.
    """
    if not isinstance(value, str):
        raise InvalidInputError("must be a string", "inputs", index)
    return value


def card_of(artifact: Artifact, config: ServingConfig, max_length: int) -> ModelCard:
    """Return what the protocols say about a model whose inputs have at most `max_length` tokens."""
    digest = artifact.manifest.get("digest")
    return ModelCard(
        task=artifact.task,
        precision=artifact.onnx.name,
        max_length=max_length,
        max_batch_size=config.max_batch_size,
        max_queue_length=config.max_queue_length,
        digest=digest if isinstance(digest, str) else None,
    )
