"""How the answers to a request call tools: from its fields and the model's chat template."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tunesmith_api.chat.styles import takes_tools, tool_style
from tunesmith_serving.engines.text_generation.openai.tools.answers import AnswerParser, ToolAnswer
from tunesmith_serving.engines.text_generation.openai.tools.formats.base import CallFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.registry import FORMATS
from tunesmith_serving.engines.text_generation.openai.tools.request import ToolFields


class ToolsUnsupportedError(ValueError):
    """The model has no form of calls that is known here."""


@dataclass(frozen=True)
class ToolPlan:
    """How the answers to a request call tools.

    Attributes:
        format: The form in which the model writes calls.
        names: The functions that may be called.
        limit: The most calls of an answer; None for any number.
        shown_tokens: The special tokens that mark calls, with their texts, which the answer's text has to show.
    """

    format: CallFormat
    names: tuple[str, ...]
    limit: int | None
    shown_tokens: tuple[tuple[int, str], ...]

    def parser(self) -> AnswerParser:
        """Return what reads one answer."""
        return ToolAnswer(self.format, self.names, self.limit, [text for _, text in self.shown_tokens])


def plan_tools(
    fields: ToolFields, template: str | None, special_token_id: Callable[[str], int | None]
) -> ToolPlan | None:
    """Return how the answers to a request call tools; None if they may not.

    Args:
        fields: The request's fields.
        template: The text of the model's chat template.
        special_token_id: Returns the id of a text that is a special token; None if it is none.

    Raises:
        ToolsUnsupportedError: The chat template has no place for tools, or another form of calls.
    """
    tools = fields.callable_tools
    if not tools or template is None:
        return None
    style = tool_style(template)
    if not takes_tools(template):
        raise ToolsUnsupportedError(
            "this model's chat template says nothing of tools; leave them out, or fine-tune the model on rows with "
            "tools, with a template that has them"
        )
    if style is None:
        raise ToolsUnsupportedError(
            "this model's chat template has calls in a form that this server does not read; it reads those of Hermes "
            "and Qwen (<tool_call>), Llama 3, Mistral ([TOOL_CALLS]) and Phi-4-mini (<|tool_call|>); leave tools out"
        )
    format = FORMATS[style]
    shown = ((special_token_id(marker), marker) for marker in format.markers)
    return ToolPlan(
        format,
        tuple(tool["function"]["name"] for tool in tools),
        1 if fields.parallel_tool_calls is False else None,
        tuple((index, marker) for index, marker in shown if index is not None),
    )
