"""How the answers to a request call tools: from its fields and the model's chat template."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tunesmith_api.chat.styles import takes_tools
from tunesmith_serving.engines.text_generation.openai.tools.answers import AnswerParser, ToolAnswer
from tunesmith_serving.engines.text_generation.openai.tools.constraint import ANY_TEXT, tools_grammar
from tunesmith_serving.engines.text_generation.openai.tools.forced import ForcedAnswer
from tunesmith_serving.engines.text_generation.openai.tools.formats.base import CallFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.registry import format_of
from tunesmith_serving.engines.text_generation.openai.tools.request import ToolFields
from tunesmith_serving.engines.text_generation.structured.grammar import Grammar


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
        grammar: What an answer must be; None if it may be any text.
        is_forced: Whether an answer has to be calls and nothing else.
    """

    format: CallFormat
    names: tuple[str, ...]
    limit: int | None
    shown_tokens: tuple[tuple[int, str], ...]
    grammar: Grammar | None = None
    is_forced: bool = False

    def parser(self) -> AnswerParser:
        """Return what reads one answer."""
        if self.is_forced:
            return ForcedAnswer(self.format)
        return ToolAnswer(self.format, self.names, self.limit, [text for _, text in self.shown_tokens])


def plan_tools(
    fields: ToolFields,
    template: str | None,
    special_token_id: Callable[[str], int | None],
    token: Callable[[str], str],
    answer: str | None = None,
) -> ToolPlan | None:
    """Return how the answers to a request call tools; None if they may not.

    Args:
        fields: The request's fields.
        template: The text of the model's chat template.
        special_token_id: Returns the id of a text that is a special token; None if it is none.
        token: Returns a text for a rule of a grammar: as one token if it is a special one, else as a string.
        answer: The rule of an answer without calls, if the request has one.

    Raises:
        ToolSchemaError: The parameters of a function cannot be enforced.
        ToolsUnsupportedError: The chat template has no place for tools, or another form of calls.
    """
    tools = fields.callable_tools
    if not tools or template is None:
        return None
    format = format_of(template, tools)
    if not takes_tools(template):
        raise ToolsUnsupportedError(
            "this model's chat template says nothing of tools; leave them out, or fine-tune the model on rows with "
            "tools, with a template that has them"
        )
    if format is None:
        raise ToolsUnsupportedError(
            "this model's chat template has calls in a form that this server does not read; it reads those of Hermes, "
            "Qwen and GLM (<tool_call>), Llama 3, Mistral ([TOOL_CALLS]), Phi-4-mini (<|tool_call|>) and DeepSeek V3 "
            "(<｜tool▁calls▁begin｜>); leave tools out"
        )
    names = tuple(tool["function"]["name"] for tool in tools)
    # Some templates, such as Llama 3's, refuse a message with several calls when it comes back.
    takes_one = "tool_calls|length==1" in template.replace(" ", "")
    is_named = fields.tool_choice.mode == "required" and len(fields.tool_choice.names or ()) == 1
    limit = 1 if fields.parallel_tool_calls is False or takes_one or is_named else None
    must = fields.tool_choice.mode == "required"
    # Of an answer that may be any text, the arguments are enforced only for functions that ask for it.
    if answer is None and any(tool["function"].get("strict") for tool in tools):
        answer = ANY_TEXT
    is_enforced = must or answer is not None
    shown = ((special_token_id(marker), marker) for marker in format.markers)
    return ToolPlan(
        format,
        names,
        limit,
        tuple((index, marker) for index, marker in shown if index is not None),
        tools_grammar(format, fields.tools, names, limit, token, None if must else answer) if is_enforced else None,
        must,
    )
