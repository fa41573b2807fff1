"""What a task of the one-pass engine says: its parameters, the rows of an input, and the answer of their outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from tunesmith_serving.engines.one_pass.batching.rows import Outputs, Row
from tunesmith_serving.engines.one_pass.tasks.served import Served
from tunesmith_serving.engines.one_pass.text.tokenizer import TextTokenizer
from tunesmith_serving.engines.predictor import InvalidInputError


class TaskParameters(BaseModel):
    """Parameters that a request may have; a null stands for the default."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An input, ready for the model.

    Attributes:
        rows: Its rows, at least one.
        text: The text that answers refer to.
        parts: What the task must know of each row to answer.
    """

    rows: list[Row]
    text: str = ""
    parts: Sequence[Any] = ()


class OnePassTask(ABC):
    """A task. Answers are those of Hugging Face's task API.

    Attributes:
        outputs: The model's outputs.
        per_token: Whether they have a value for each token.
        parameters: Its parameters.
    """

    outputs: ClassVar[tuple[str, ...]] = ("logits",)
    per_token: ClassVar[bool] = False
    parameters: ClassVar[type[TaskParameters]]

    def __init__(self, tokenizer: TextTokenizer, served: Served) -> None:
        self.tokenizer = tokenizer
        self.served = served

    def parse(self, given: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the task's own parameters
        """Return checked parameters.

        Raises:
            InvalidInputError: One is unknown or wrong.
        """
        try:
            return self.parameters.model_validate({key: value for key, value in given.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            message = first["msg"].removeprefix("Value error, ")
            if first["type"] == "extra_forbidden":
                message = f"this task does not have it; it has {', '.join(self.parameters.model_fields)}"
            raise InvalidInputError(message, "parameters", *first["loc"]) from None

    @abstractmethod
    def prepare(self, value: Any, parameters: Any) -> Prepared:  # noqa: ANN401
        """Return the rows of an input.

        Raises:
            InvalidInputError: It is not an input of this task; `where` is a place within it.
        """

    @abstractmethod
    def answer(self, prepared: Prepared, outputs: Sequence[Outputs], parameters: Any) -> Any:  # noqa: ANN401
        """Return the answer to an input of which the outputs of all rows are there."""

    @property
    def example(self) -> Any:  # noqa: ANN401
        """An input for the warm-up."""
        return "a"


def row_of(encoding: Any) -> Row:  # noqa: ANN401 - tokenizers.Encoding
    """Return an encoding as a row."""
    return Row(encoding.ids, encoding.type_ids)


def text_in(value: object, *where: str | int) -> str:
    """Return a value that must be a text.

    Raises:
        InvalidInputError: It is none.
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"must be a string, not {kind_of(value)}", *where)
    return value


def kind_of(value: object) -> str:
    """Return what JSON calls a value's type."""
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null", str: "a string"}
    return names.get(type(value), "a number")


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return probabilities along the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: npt.NDArray[np.float32] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result
