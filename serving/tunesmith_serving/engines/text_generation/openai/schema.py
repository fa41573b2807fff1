"""The bodies of requests, checked field by field."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tunesmith_serving.engines.text_generation.batching.types import MAX_TOP_LOGPROBS, SamplingParams
from tunesmith_serving.engines.text_generation.openai.messages import Message
from tunesmith_serving.engines.text_generation.openai.output import OutputFields
from tunesmith_serving.engines.text_generation.openai.tools.request import ToolFields, Tools

MAX_STOP_STRINGS = 4
MAX_ANSWERS = 128
MAX_BIAS = 100
Penalty = Annotated[float | None, Field(ge=-2, le=2)]
Prompt = str | tuple[int, ...]


class Body(BaseModel):
    """A request's body; what is not a field is refused."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class StreamOptions(Body):
    """`stream_options`; obfuscation pads the events of OpenAI's own streams, and is not part of the answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Generation(Body, OutputFields):
    """The fields that both kinds of request share."""

    model: str
    n: Annotated[int | None, Field(ge=1, le=MAX_ANSWERS)] = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    top_k: Annotated[int | None, Field(ge=-1)] = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    presence_penalty: Penalty = None
    frequency_penalty: Penalty = None
    repetition_penalty: Annotated[float | None, Field(gt=0)] = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    stop: tuple[str, ...] = ()
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _list_biases(cls, value: object) -> tuple[tuple[int, float], ...]:
        if value is None:
            return ()
        if not isinstance(value, dict) or not all(isinstance(key, str) and key.isdecimal() for key in value):
            raise ValueError('must be an object of token ids and numbers, such as {"50256": -100}')
        for number in value.values():
            if isinstance(number, bool) or not isinstance(number, int | float) or not -MAX_BIAS <= number <= MAX_BIAS:
                raise ValueError(f"must have numbers from -{MAX_BIAS} to {MAX_BIAS}")
        return tuple((int(key), float(number)) for key, number in value.items())

    @field_validator("stop", mode="before")
    @classmethod
    def _list_stop_strings(cls, value: object) -> tuple[str, ...]:
        if value is None:
            return ()
        strings = [value] if isinstance(value, str) else value
        if not isinstance(strings, list) or not all(isinstance(text, str) for text in strings):
            raise ValueError("must be a string or a list of strings")
        if len(strings) > MAX_STOP_STRINGS:
            raise ValueError(f"has {len(strings)} strings; at most {MAX_STOP_STRINGS} are allowed")
        if not all(strings):
            raise ValueError("must not hold an empty string")
        return tuple(strings)

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with a chunk for the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling(self, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
        """Return the sampling parameters; those that are not given have OpenAI's defaults."""
        names = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
        return SamplingParams(
            max_tokens=max_tokens,
            top_k=max(0, self.top_k or 0),  # vLLM's -1 also means all tokens
            logit_bias=self.logit_bias,
            seed=self.seed,
            stop=self.stop,
            logprobs=logprobs,
            **{name: value for name in names if (value := getattr(self, name)) is not None},
        )


class ChatRequest(Generation, ToolFields):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)]
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=MAX_TOP_LOGPROBS)] = None

    @field_validator("max_completion_tokens")
    @classmethod
    def _one_limit(cls, value: int | None, info: Any) -> int | None:  # noqa: ANN401
        if value is not None and info.data.get("max_tokens") not in (None, value):
            raise ValueError("differs from max_tokens; give max_completion_tokens only")
        return value

    @field_validator("top_logprobs")
    @classmethod
    def _only_with_logprobs(cls, value: int | None, info: Any) -> int | None:  # noqa: ANN401
        if value and not info.data.get("logprobs"):
            raise ValueError("is allowed only with logprobs: true")
        return value

    def params(self) -> SamplingParams:
        """Return the sampling parameters."""
        limit = self.max_completion_tokens if self.max_tokens is None else self.max_tokens
        return self.sampling(limit, (self.top_logprobs or 0) if self.logprobs else None)


class CompletionRequest(Generation):
    """`POST /v1/completions`; `prompt` becomes a tuple of prompts, texts or token ids each."""

    prompt: tuple[Prompt, ...]
    logprobs: Annotated[int | None, Field(ge=0, le=MAX_TOP_LOGPROBS)] = None
    echo: bool | None = None
    best_of: int | None = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _list_prompts(cls, value: object) -> tuple[object, ...]:
        prompts = value if isinstance(value, list) and value and not _is_token(value[0]) else [value]
        return tuple(_prompt(prompt) for prompt in prompts)

    @field_validator("echo")
    @classmethod
    def _without_logprobs(cls, value: bool | None, info: Any) -> bool | None:  # noqa: ANN401
        if value and info.data.get("logprobs") is not None:
            raise ValueError("cannot be combined with logprobs: the model computes none for the prompt; leave one out")
        return value

    @field_validator("best_of")
    @classmethod
    def _same_as_n(cls, value: int | None, info: Any) -> int | None:  # noqa: ANN401
        if value is not None and value != (info.data.get("n") or 1):
            raise ValueError("must be equal to n; ask for n answers, and choose among them")
        return value

    def params(self) -> SamplingParams:
        """Return the sampling parameters; `max_tokens` is 16 by default, as with OpenAI."""
        return self.sampling(16 if self.max_tokens is None else self.max_tokens, self.logprobs)


class TokenizeRequest(Body):
    """`POST /tokenize`, as vLLM has it: either `prompt` or `messages`."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)] | None = None
    tools: Tools = ()
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(Body):
    """`POST /detokenize`, as vLLM has it."""

    model: str | None = None
    tokens: Annotated[list[Annotated[int, Field(ge=0)]], Field(fail_fast=True)]


def _prompt(value: object) -> Prompt:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(map(_is_token, value)):
        return tuple(value)
    raise ValueError("must be a string, a list of token ids, or a list of one of these")


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
