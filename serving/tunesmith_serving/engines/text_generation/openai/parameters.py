"""The parameters that a request may have: those of OpenAI's API and the usual extensions."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel

from tunesmith_serving.http.body import validate
from tunesmith_serving.http.errors import ApiError

Model = TypeVar("Model", bound=BaseModel)

# Parameters that do not change the answer, whatever their value.
IGNORED = frozenset({
    "metadata", "prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "safety_identifier", "service_tier", "store", "user",
})  # fmt: skip


@dataclass(frozen=True)
class Unsupported:
    """A parameter that would change the answer.

    Attributes:
        instead: How to do without it.
        neutral: Values that have no effect, which are accepted.
    """

    instead: str
    neutral: tuple[object, ...] = ()


_TOOLS = 'write tools: [{"type": "function", "function": {...}}] with the same objects, and tool_choice'
_TEXT_ONLY = "this model reads and writes text only; leave it out"
UNSUPPORTED: dict[str, Unsupported] = {
    "add_generation_prompt": Unsupported("the prompt always ends with the assistant's turn; leave it out", (True,)),
    "audio": Unsupported(_TEXT_ONLY),
    "best_of": Unsupported("use n, and choose among the answers", (1,)),
    "chat_template": Unsupported("the model is served with the template that it was trained with; leave it out"),
    "chat_template_kwargs": Unsupported("the template gets the messages only; leave it out", ({},)),
    "continue_final_message": Unsupported("use /v1/completions with the text so far", (False,)),
    "echo": Unsupported("only /v1/completions has it", (False,)),
    "function_call": Unsupported(_TOOLS, ("none", "auto")),
    "functions": Unsupported(_TOOLS, ([],)),
    "guided_choice": Unsupported('its present name is structured_outputs: {"choice": [...]}'),
    "guided_decoding_backend": Unsupported("leave it out"),
    "guided_grammar": Unsupported('its present name is structured_outputs: {"grammar": "..."}'),
    "guided_json": Unsupported('its present name is structured_outputs: {"json": {...}}'),
    "guided_regex": Unsupported('its present name is structured_outputs: {"regex": "..."}'),
    "guided_whitespace_pattern": Unsupported("JSON is written without whitespace; leave it out"),
    "ignore_eos": Unsupported("leave it out", (False,)),
    "min_tokens": Unsupported("leave it out", (0,)),
    "modalities": Unsupported('only ["text"] is supported', (["text"],)),
    "moderation": Unsupported("leave it out, and check the answer yourself"),
    "reasoning_effort": Unsupported("this model has no levels of reasoning; leave it out", ("none",)),
    "skip_special_tokens": Unsupported("special tokens are never part of the answer; leave it out", (True,)),
    "stop_token_ids": Unsupported("use stop, with the text", ([],)),
    "structural_tag": Unsupported('use tools, or structured_outputs: {"grammar": "..."}'),
    "suffix": Unsupported("this model only continues a text; leave it out", ("",)),
    "verbosity": Unsupported("ask for a short or long answer in a message", ("medium",)),
    "web_search_options": Unsupported("leave it out, and put what was found in a message"),
}


def parse(
    kind: type[Model],
    data: dict[str, Any],
    unsupported: Mapping[str, Unsupported] = UNSUPPORTED,
    ignored: frozenset[str] = IGNORED,
) -> Model:
    """Check a body. What does not change the answer is ignored; what would, but is not supported, is refused.

    Args:
        kind: What the body must be.
        data: The body.
        unsupported: The parameters that would change the answer.
        ignored: The parameters that do not.

    Raises:
        ApiError: With the parameter in `param`.
    """
    known = {}
    for name, value in data.items():
        if name in kind.model_fields:
            known[name] = value
        elif value is None or name in ignored:
            continue
        elif name not in unsupported:
            raise ApiError(400, _unknown(name, kind, ignored), param=name, code="unknown_parameter")
        elif not any(_same(value, neutral) for neutral in unsupported[name].neutral):
            raise ApiError(
                400,
                f"{name} is not supported with this value: {unsupported[name].instead}",
                param=name,
                code="unsupported_parameter",
            )
    return validate(kind, known)


def _unknown(name: str, kind: type[BaseModel], ignored: frozenset[str]) -> str:
    close = get_close_matches(name, [*kind.model_fields, *ignored], 1)
    return f"unknown parameter {name}; " + (f"did you mean {close[0]}?" if close else "leave it out")


def _same(value: object, neutral: object) -> bool:
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)
