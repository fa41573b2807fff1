"""What the protocols ask of an engine whose model answers inputs of a task, and how an engine refuses them.

An input is what `inputs` holds in Hugging Face's task API: a string; for questionAnswering `{"question", "context"}`;
for sequenceClassification also `{"text", "text_pair"}`; for tokenClassification also `{"tokens": [...]}`. Parameters
are those of that API. The protocols in `tunesmith_serving.protocols` translate between them and HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


class InvalidInputError(ValueError):
    """An input or a parameter that the model cannot take.

    Attributes:
        where: Its place: `("inputs", 2, "question")` or `("parameters", "top_k")`.
    """

    def __init__(self, message: str, *where: str | int) -> None:
        super().__init__(message)
        self.where = where


class TooManyInputsError(ValueError):
    """One request has more inputs than the server ever takes at once."""

    def __init__(self, count: int, most: int) -> None:
        super().__init__(f"{count} inputs in one request; this server takes at most {most}: send several requests")


class QueueFullError(Exception):
    """The queue is full: try again later.

    Attributes:
        retry_after: Whole seconds after which there should be room.
    """

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(f"{message}; try again in {retry_after} s")
        self.retry_after = retry_after


class DrainingError(Exception):
    """The server finishes what it has accepted and takes nothing new."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down; try again")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What protocols say about the model.

    Attributes:
        task: The task, as `spec.task` names it.
        precision: The precision that is served.
        max_length: The most tokens of one input.
        max_batch_size: Inputs that are computed together.
        max_queue_length: Inputs that may wait.
        labels: The classes by their number; empty for tasks without.
        problem_type: Of a sequenceClassification: single_label_classification, multi_label_classification or
            regression.
        digest: The artifact's digest, if it has one.
    """

    task: str
    precision: str
    max_length: int
    max_batch_size: int
    max_queue_length: int
    labels: tuple[str, ...] = ()
    problem_type: str | None = None
    digest: str | None = None

    @property
    def max_inputs(self) -> int:
        """The most inputs of one request."""
        return self.max_batch_size + self.max_queue_length


@runtime_checkable
class Predictor(Protocol):
    """A model that answers inputs of its task."""

    @property
    def card(self) -> ModelCard:
        """What the model is."""

    async def predict(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
        """Return the answer to each input, as the task API gives it for this input alone.

        All inputs are accepted or none. If the calling asyncio task is cancelled, what is not computed yet is dropped.

        Raises:
            InvalidInputError: An input or a parameter is wrong.
            TooManyInputsError: These inputs would not even fit in an empty queue.
            QueueFullError: Try again later.
            DrainingError: The server is shutting down.
            EngineFailedError: The engine has stopped working.
        """

    def prompt_ids(self, value: Any, parameters: Mapping[str, Any]) -> list[int]:  # noqa: ANN401 - JSON
        """Return the token ids that the model gets of one input; of several windows the first.

        Raises:
            InvalidInputError: The input or a parameter is wrong.
        """


class AnswerStream(Protocol):
    """An answer that comes in parts.

    Attributes:
        events: The parts, JSON objects each.
    """

    events: AsyncIterator[dict[str, Any]]

    def cancel(self) -> None:
        """End it early."""


@runtime_checkable
class StreamingPredictor(Protocol):
    """A model whose answers can come in parts."""

    async def stream(self, value: Any, parameters: Mapping[str, Any]) -> AnswerStream:  # noqa: ANN401 - JSON
        """Return the answer to one input as it comes; raises what `Predictor.predict` raises."""
