"""Parameters of generation as Hugging Face's task API names them."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tunesmith_serving.engines.predictor import InvalidInputError
from tunesmith_serving.engines.text_generation.batching.types import SamplingParams

Model = TypeVar("Model", bound=BaseModel)

MAX_STOP_STRINGS = 4

# Parameters that would change the answer, with the values that ask for nothing and what to do without them.
UNSUPPORTED: dict[str, tuple[tuple[object, ...], str]] = {
    "adapter_id": ((), "this server has one model; leave it out"),
    "best_of": ((1,), "leave it out, and choose among several answers"),
    "decoder_input_details": ((False,), "leave it out"),
    "grammar": ((), "this task has none; leave it out, and check the form of the answer"),
    "max_time": ((), "use max_new_tokens"),
    "num_beams": ((1,), "answers are made without beams; leave it out"),
    "num_return_sequences": ((1,), "send the input several times, each with its seed"),
    "top_n_tokens": ((0,), "use logprobs of /v1/completions"),
    "typical_p": ((1, 1.0), "use top_p"),
    "watermark": ((False,), "leave it out"),
}
# Parameters that change nothing here.
IGNORED = frozenset({"use_cache"})


class SamplingParameters(BaseModel):
    """What is asked of the tokens of an answer; as text-generation-inference, greedy unless something asks to sample.

    Attributes:
        max_new_tokens: The most tokens of the answer.
        do_sample: Whether tokens are drawn although nothing else says so.
        temperature: 0 for the most likely token.
        top_k: Only this many of the most likely tokens are drawn from; 0 for all.
        top_p: The smallest set of tokens whose probabilities add up to this.
        repetition_penalty: As in transformers.
        frequency_penalty: As in OpenAI's API.
        seed: Makes drawing repeatable.
        stop: Strings that end the answer.
    """

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    max_new_tokens: Annotated[int | None, Field(ge=1)] = None
    do_sample: bool | None = None
    temperature: Annotated[float | None, Field(ge=0, le=100)] = None
    top_k: Annotated[int | None, Field(ge=0)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    repetition_penalty: Annotated[float | None, Field(gt=0)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    stop: tuple[str, ...] = ()

    @field_validator("stop", mode="before")
    @classmethod
    def _list_stop_strings(cls, value: object) -> tuple[str, ...]:
        strings = [value] if isinstance(value, str) else value
        if not isinstance(strings, list) or not all(isinstance(text, str) and text for text in strings):
            raise ValueError("must be a list of strings that are not empty")
        if len(strings) > MAX_STOP_STRINGS:
            raise ValueError(f"has {len(strings)} strings; at most {MAX_STOP_STRINGS} are allowed")
        return tuple(strings)

    def sampling(self, default_max_tokens: int | None, logprobs: int | None = None) -> SamplingParams:
        """Return the sampling parameters."""
        warped = [value for value in (self.temperature, self.top_k, self.top_p) if value is not None]
        sample = self.do_sample or (self.do_sample is None and bool(warped))
        temperature = 1.0 if self.temperature is None else self.temperature
        return SamplingParams(
            max_tokens=self.max_new_tokens or default_max_tokens,
            temperature=temperature if sample else 0.0,
            top_k=self.top_k or 0,
            top_p=1.0 if self.top_p is None else self.top_p,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            frequency_penalty=self.frequency_penalty or 0.0,
            seed=self.seed,
            stop=self.stop,
            logprobs=logprobs,
        )


def parse(kind: type[Model], parameters: Mapping[str, Any]) -> Model:
    """Check parameters. `null` stands for one that is left out; what changes nothing is ignored.

    Raises:
        InvalidInputError: A parameter is unknown, not supported, or has a wrong value.
    """
    known = {}
    for name, value in parameters.items():
        if value is None or name in IGNORED:
            continue
        if name in kind.model_fields:
            known[name] = value
        elif name not in UNSUPPORTED:
            close = get_close_matches(name, list(kind.model_fields), 1)
            hint = f"did you mean {close[0]}?" if close else f"this task has {', '.join(kind.model_fields)}"
            raise InvalidInputError(f"this parameter is unknown; {hint}", "parameters", name)
        elif not any(value == neutral and type(value) is type(neutral) for neutral in UNSUPPORTED[name][0]):
            message = f"is not supported with this value: {UNSUPPORTED[name][1]}"
            raise InvalidInputError(message, "parameters", name)
    try:
        return kind.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInputError(first["msg"].removeprefix("Value error, "), "parameters", *first["loc"]) from None
