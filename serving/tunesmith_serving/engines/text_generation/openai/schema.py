"""The bodies of requests, checked field by field."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tunesmith_serving.engines.text_generation.batching.types import MAX_TOP_LOGPROBS, SamplingParams

MAX_STOP_STRINGS = 4
Role = Literal["system", "developer", "user", "assistant"]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class StreamOptions(_Body):
    """`stream_options`."""

    include_usage: bool = False


class Message(_Body):
    """One turn of a conversation; its content is text."""

    role: Role
    content: str

    @field_validator("content", mode="before")
    @classmethod
    def _join_text_parts(cls, value: object) -> object:
        if value is None:
            raise ValueError("must be text, not null")
        if not isinstance(value, list):
            return value
        texts = []
        for index, part in enumerate(value):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind != "text":
                raise ValueError(f"part {index} is of type {kind!r}; this server takes parts of type 'text' only")
            if not isinstance(part.get("text"), str) or set(part) != {"type", "text"}:
                raise ValueError(f"part {index} must be {{'type': 'text', 'text': '...'}} and no more")
            texts.append(part["text"])
        return "".join(texts)


class _Generation(_Body):
    """The fields that both kinds of request share."""

    model: str
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    stop: tuple[str, ...] = ()
    stream: bool | None = None
    stream_options: StreamOptions | None = None

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

    @field_validator("stream_options")
    @classmethod
    def _only_with_stream(cls, value: StreamOptions | None, info: Any) -> StreamOptions | None:  # noqa: ANN401
        if value is not None and not info.data.get("stream"):
            raise ValueError("is allowed only with stream: true")
        return value

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with a chunk for the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
        """Return the sampling parameters, with OpenAI's defaults for what is not given."""
        return SamplingParams(
            max_tokens=max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=self.stop,
            logprobs=logprobs,
        )


class ChatRequest(_Generation):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=MAX_TOP_LOGPROBS)] = None

    @field_validator("max_completion_tokens")
    @classmethod
    def _one_limit(cls, value: int | None, info: Any) -> int | None:  # noqa: ANN401
        if value is not None and info.data.get("max_tokens") is not None:
            raise ValueError("cannot be given together with max_tokens; give max_completion_tokens only")
        return value

    @field_validator("top_logprobs")
    @classmethod
    def _only_with_logprobs(cls, value: int | None, info: Any) -> int | None:  # noqa: ANN401
        if value is not None and not info.data.get("logprobs"):
            raise ValueError("is allowed only with logprobs: true")
        return value

    def conversation(self) -> list[dict[str, str]]:
        """Return the messages for the chat template; `developer` is the newer name of `system`."""
        return [
            {"role": "system" if message.role == "developer" else message.role, "content": message.content}
            for message in self.messages
        ]

    def params(self) -> SamplingParams:
        """Return the sampling parameters."""
        limit = self.max_completion_tokens if self.max_tokens is None else self.max_tokens
        return self.sampling(limit, (self.top_logprobs or 0) if self.logprobs else None)


class CompletionRequest(_Generation):
    """`POST /v1/completions`."""

    prompt: str | list[int]
    logprobs: Annotated[int | None, Field(ge=0, le=MAX_TOP_LOGPROBS)] = None

    @model_validator(mode="before")
    @classmethod
    def _one_prompt(cls, data: dict[str, Any]) -> dict[str, Any]:
        prompt = data.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
            return {**data, "prompt": prompt[0]}
        return data

    @field_validator("prompt", mode="before")
    @classmethod
    def _check_prompt(cls, value: object) -> object:
        if isinstance(value, list):
            if any(isinstance(item, str | list) for item in value):
                raise ValueError(f"holds {len(value)} prompts; send one prompt a request")
            if not all(isinstance(item, int) and not isinstance(item, bool) for item in value):
                raise ValueError("must be a string or a list of token ids")
        elif not isinstance(value, str):
            raise ValueError("must be a string or a list of token ids")
        return value

    def params(self) -> SamplingParams:
        """Return the sampling parameters; `max_tokens` is 16 by default, as with OpenAI."""
        return self.sampling(16 if self.max_tokens is None else self.max_tokens, self.logprobs)
