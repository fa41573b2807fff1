"""Classes of texts and of pairs of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tunesmith_serving.engines.one_pass.batching.rows import Outputs
from tunesmith_serving.engines.one_pass.tasks.base import (
    OnePassTask,
    Prepared,
    TaskParameters,
    kind_of,
    row_of,
    softmax,
    text_in,
)
from tunesmith_serving.engines.one_pass.text.tokenizer import Strategy
from tunesmith_serving.engines.predictor import InvalidInputError

Truncation = bool | Literal["longest_first", "only_first", "only_second", "do_not_truncate"]


class ClassificationParameters(TaskParameters):
    """Parameters of transformers' TextClassificationPipeline and its tokenizer.

    Attributes:
        top_k: The most classes of an answer, the likeliest first; all if it is left out.
        function_to_apply: What makes scores of the outputs; by default what the model was trained with.
        truncation: Whether a text that is too long is cut off, and which of two.
        truncation_direction: The end at which it is cut off.
    """

    top_k: Annotated[int, Field(ge=1)] | None = None
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None
    truncation: Truncation = True
    truncation_direction: Literal["left", "right"] = "right"


class SequenceClassification(OnePassTask):
    """The task."""

    parameters = ClassificationParameters

    def prepare(self, value: Any, parameters: ClassificationParameters) -> Prepared:  # noqa: ANN401
        """Return the one row of a text, or of `{"text", "text_pair"}`."""
        text, pair = _texts(value)
        allowed = parameters.truncation not in (False, "do_not_truncate")
        strategy: Strategy = "longest_first"
        if parameters.truncation in ("only_first", "only_second"):
            strategy = "only_second" if parameters.truncation == "only_second" else "only_first"
        if pair is None and strategy == "only_second":
            raise InvalidInputError("only_second needs a pair of texts", "parameters", "truncation")
        encoding = self.tokenizer.encode(
            text,
            pair,
            length=self.served.max_length,
            strategy=strategy,
            direction=parameters.truncation_direction,
        )
        if encoding.overflowing and not allowed:
            count = len(self.tokenizer.encode(text, pair).ids)
            raise InvalidInputError(
                f"has {count} tokens, this model takes {self.served.max_length}; shorten it, or allow truncation"
            )
        if not encoding.ids:
            raise InvalidInputError("has no tokens; write a text")
        return Prepared([row_of(encoding)])

    def answer(
        self, prepared: Prepared, outputs: Sequence[Outputs], parameters: ClassificationParameters
    ) -> list[dict[str, Any]]:
        """Return `[{label, score}, ...]`, the highest score first."""
        scores = self._scores(outputs[0]["logits"], parameters.function_to_apply)
        order = np.argsort(-scores, kind="stable")[: parameters.top_k]
        return [{"label": self.served.labels[index], "score": float(scores[index])} for index in order]

    def _scores(self, logits: npt.NDArray[np.float32], function: str | None) -> npt.NDArray[np.float32]:
        if function is None:
            defaults = {"regression": "none", "multi_label_classification": "sigmoid"}
            function = defaults.get(self.served.problem_type or "", "softmax")
        if function == "softmax":
            return softmax(logits)
        if function == "sigmoid":
            with np.errstate(over="ignore"):
                return np.asarray(1 / (1 + np.exp(-logits)), np.float32)
        return logits


def _texts(value: object) -> tuple[str, str | None]:
    if isinstance(value, str):
        return value, None
    if not isinstance(value, dict):
        raise InvalidInputError(f'must be a string or {{"text", "text_pair"}}, not {kind_of(value)}')
    if unknown := sorted(set(value) - {"text", "text_pair"}):
        raise InvalidInputError("an input has text and text_pair only", str(unknown[0]))
    text = text_in(value.get("text"), "text")
    pair = value.get("text_pair")
    return text, None if pair is None else text_in(pair, "text_pair")
