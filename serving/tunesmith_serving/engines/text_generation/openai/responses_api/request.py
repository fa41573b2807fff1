"""The body of `POST /v1/responses`, and the chat that it stands for."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from tunesmith_serving.engines.text_generation.batching.types import MAX_TOP_LOGPROBS
from tunesmith_serving.engines.text_generation.openai.parameters import IGNORED, Unsupported, parse
from tunesmith_serving.engines.text_generation.openai.responses_api.input import Turn, read_input
from tunesmith_serving.engines.text_generation.openai.responses_api.paths import named_as_given
from tunesmith_serving.engines.text_generation.openai.schema import Body, ChatRequest, StreamOptions
from tunesmith_serving.http.body import validate
from tunesmith_serving.http.errors import ApiError

LOGPROBS = "message.output_text.logprobs"
INCLUDED = (LOGPROBS, "reasoning.encrypted_content")
_STATELESS = "this server keeps no responses; send the earlier items again in input, and leave it out"
IGNORED_HERE = IGNORED | {"background_options", "max_tool_calls"}
UNSUPPORTED = {
    "background": Unsupported("wait for the answer, or stream it; leave it out", (False,)),
    "context_management": Unsupported("leave it out, and send a shorter input", ([],)),
    "conversation": Unsupported(_STATELESS),
    "max_completion_tokens": Unsupported("its name here is max_output_tokens"),
    "max_tokens": Unsupported("its name here is max_output_tokens"),
    "messages": Unsupported("its name here is input"),
    "moderation": Unsupported("leave it out, and check the answer yourself"),
    "n": Unsupported("a response has one answer; ask several times, or use /v1/chat/completions", (1,)),
    "previous_response_id": Unsupported(_STATELESS),
    "prompt": Unsupported("this server keeps no prompts; send the text in input and instructions"),
    "reasoning": Unsupported("this model has no levels of reasoning; leave it out", ({}, {"effort": "none"})),
    "response_format": Unsupported("its name here is text.format"),
    "truncation": Unsupported("send a shorter input; only disabled is supported", ("disabled",)),
}
# Fields of a chat that have the same name and meaning here. The last ones are not OpenAI's, but usual.
SAME = (
    "temperature", "top_p", "parallel_tool_calls", "tool_choice", "stream",
    "top_k", "min_p", "seed", "stop", "logit_bias", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "structured_outputs",
)  # fmt: skip
_TOOL = '{"type": "function", "name": "...", "description": "...", "parameters": {...}}'


class TextFormat(Body):
    """`text.format`."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None

    def for_chat(self) -> dict[str, Any]:
        """Return it as a chat's `response_format`."""
        if self.type != "json_schema":
            return {"type": self.type}
        given = {"name": self.name, "description": self.description, "schema": self.schema_, "strict": self.strict}
        return {"type": self.type, "json_schema": {key: value for key, value in given.items() if value is not None}}


class TextConfig(Body):
    """`text`."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    @field_validator("verbosity")
    @classmethod
    def _only_medium(cls, value: str | None) -> str | None:
        if value not in (None, "medium"):
            raise ValueError("only medium is supported; ask for a short or long answer in instructions")
        return value


class ResponsesRequest(Body):
    """`POST /v1/responses`."""

    model: str
    input: tuple[Turn, ...]
    instructions: str | None = None
    max_output_tokens: Annotated[int | None, Field(ge=1)] = None
    include: Annotated[list[str], Field(fail_fast=True)] | None = None
    text: TextConfig = TextConfig()
    tools: list[dict[str, Any]] = []
    top_logprobs: Annotated[int | None, Field(ge=0, le=MAX_TOP_LOGPROBS)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: dict[str, str] = {}
    temperature: Any = None
    top_p: Any = None
    parallel_tool_calls: Any = None
    tool_choice: Any = None
    top_k: Any = None
    min_p: Any = None
    seed: Any = None
    stop: Any = None
    logit_bias: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    repetition_penalty: Any = None
    structured_outputs: Any = None

    @field_validator("input", mode="before")
    @classmethod
    def _read_input(cls, value: object) -> tuple[Turn, ...]:
        return tuple(read_input(value))

    @field_validator("include")
    @classmethod
    def _known(cls, value: list[str] | None) -> list[str] | None:
        for name in value or ():
            if name not in INCLUDED:
                raise ValueError(f"{name!r} is not there; only {' and '.join(INCLUDED)} are")
        return value

    @field_validator("text", "tools", "metadata", mode="before")
    @classmethod
    def _null_is_nothing(cls, value: object, info: Any) -> object:  # noqa: ANN401
        return cls.model_fields[info.field_name].default if value is None else value

    @field_validator("tools")
    @classmethod
    def _functions(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for index, tool in enumerate(value):
            if tool.get("type") != "function":
                raise ValueError(f"[{index}] is of type {tool.get('type')!r}; only functions are supported: {_TOOL}")
            if "function" in tool:
                raise ValueError(f"[{index}] has the form of chat completions; write {_TOOL}")
        return value

    @property
    def with_logprobs(self) -> bool:
        """Whether the response has log probabilities."""
        return LOGPROBS in (self.include or ()) or bool(self.top_logprobs)

    def chat(self) -> ChatRequest:
        """Return the chat that it stands for.

        Raises:
            ApiError: A field has a wrong value; it is named as it is here.
        """
        turns = [*([Turn("system", self.instructions, "instructions")] if self.instructions else []), *self.input]
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [turn.message() for turn in turns],
            "max_completion_tokens": self.max_output_tokens,
            "response_format": None if self.text.format is None else self.text.format.for_chat(),
            "tools": [_nested(tool) for tool in self.tools],
            **{name: value for name in SAME if (value := getattr(self, name)) is not None},
        }
        if self.with_logprobs:
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs or 0}
        with named_as_given([turn.path for turn in turns]):
            return validate(ChatRequest, body)


def read_request(data: dict[str, Any]) -> ResponsesRequest:
    """Return the body of a request.

    Raises:
        ApiError: A field is missing, unknown, or has a wrong value.
    """
    if data.get("input") is None:
        message = "input: Field required: a text, or a list of items"
        raise ApiError(400, message, param="input", code="missing_required_parameter")
    return parse(ResponsesRequest, data, UNSUPPORTED, IGNORED_HERE - {"metadata"})


def _nested(tool: dict[str, Any]) -> dict[str, Any]:
    """Return a tool as chat completions have it."""
    known = ("name", "description", "parameters", "strict")
    function = {key: tool[key] for key in known if tool.get(key) is not None}
    return {"type": "function", "function": function}
