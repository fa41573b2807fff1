"""How models write the calls of tools: which of the known forms a chat template has, by its text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any


class ToolStyle(StrEnum):
    """A form of calls. Its value names a family of models that write it."""

    HERMES = "hermes"
    LLAMA = "llama"
    MISTRAL = "mistral"
    PHI = "phi"
    QWEN_CODER = "qwen-coder"
    GLM = "glm"
    DEEPSEEK = "deepseek"


# A tag of Jinja, with the strings in it as wholes, so that what they contain does not end it.
_TAG = re.compile(
    r"""\{[%{](?P<code>(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?![%}]\})[^'"])*)[%}]\}""",
    re.DOTALL,
)
_STRING = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
_VARIABLE = re.compile(r"(?<![\w.])tools\b(?!\s*=[^=])")
# Joined with other text, which an object cannot be; a filter in between would make it text.
_JOINED_ARGUMENTS = re.compile(r"""arguments(?:['"]\])?\s*\+""")
_IN_MESSAGE = re.compile(r"""message(?:s\[0\])?(?:\[\s*['"]tools['"]\s*\]|\.tools\b)""")
_DEEPSEEK = "<｜tool▁calls▁begin｜>"


@lru_cache(maxsize=16)
def tool_style(template: str) -> ToolStyle | None:
    """Return the form in which a model with this chat template writes calls; None for no known form."""
    if "[TOOL_CALLS]" in template:
        return ToolStyle.MISTRAL
    if _DEEPSEEK in template:
        return ToolStyle.DEEPSEEK
    if "<tool_call>" in template:
        # Qwen3-Coder and GLM put their own markup between the same marks.
        if "<function=" in template:
            return ToolStyle.QWEN_CODER
        return ToolStyle.GLM if "<arg_key>" in template else ToolStyle.HERMES
    if "<|tool_call|>" in template or "<|tool|>" in template or "functools[" in template:
        return ToolStyle.PHI
    if "<|start_header_id|>" in template and '"parameters"' in template.replace("\\", ""):
        return ToolStyle.LLAMA
    return None


def is_compact(template: str) -> bool:
    """Return whether a chat template has the shorter one of two variants of its style.

    Those are Mistral's with the name before the arguments, GLM's without line breaks, and DeepSeek's without a block of
    code around the arguments.
    """
    style = tool_style(template)
    if style is ToolStyle.MISTRAL:
        return "[ARGS]" in template
    if style is ToolStyle.GLM:
        return "</arg_key><arg_value>" in template
    return style is ToolStyle.DEEPSEEK and "```json" not in template


def takes_arguments_as_text(template: str) -> bool:
    """Return whether a chat template expects the arguments of calls as JSON text, as those of DeepSeek do."""
    return bool(_JOINED_ARGUMENTS.search(template))


@lru_cache(maxsize=16)
def takes_tools(template: str) -> bool:
    """Return whether a chat template tells the model of tools: by its variable, or in the system's message."""
    code = [_STRING.sub("''", tag["code"]) for tag in _TAG.finditer(template)]
    return any(_VARIABLE.search(part) for part in code) or tools_in_message(template)


@lru_cache(maxsize=16)
def tools_in_message(template: str) -> bool:
    """Return whether a chat template expects the tools as text in the system's message, as Phi-4-mini does."""
    code = [_STRING.sub("''", tag["code"]) for tag in _TAG.finditer(template)]
    return not any(_VARIABLE.search(part) for part in code) and bool(_IN_MESSAGE.search(template))


def writes_calls(template: str) -> bool:
    """Return whether a chat template writes the calls in an assistant's message."""
    return "tool_calls" in template


def calls_as_text(style: ToolStyle, calls: Sequence[dict[str, Any]]) -> str:
    """Return calls as a model of this style writes them, for templates that leave them out."""
    functions = [call["function"] for call in calls]
    if style is ToolStyle.PHI:
        return f"<|tool_call|>{_json(functions)}<|/tool_call|>"
    if style is ToolStyle.MISTRAL:
        return f"[TOOL_CALLS]{_json(functions)}"
    if style is ToolStyle.QWEN_CODER:
        return "\n".join(map(_with_parameters, functions))
    if style is ToolStyle.GLM:
        return "\n".join(map(_with_keys, functions))
    if style is ToolStyle.DEEPSEEK:
        calls_ = [f"function<｜tool▁sep｜>{one['name']}\n```json\n{_json(one['arguments'])}\n```" for one in functions]
        marked = "\n".join(f"<｜tool▁call▁begin｜>{call}<｜tool▁call▁end｜>" for call in calls_)
        return f"{_DEEPSEEK}{marked}<｜tool▁calls▁end｜>"
    if style is ToolStyle.LLAMA:
        return "; ".join(_json({"name": one["name"], "parameters": one["arguments"]}) for one in functions)
    return "\n".join(f"<tool_call>\n{_json(one)}\n</tool_call>" for one in functions)


def _with_parameters(function: dict[str, Any]) -> str:
    parts = [f"<parameter={key}>\n{_plain(value)}\n</parameter>\n" for key, value in function["arguments"].items()]
    return f"<tool_call>\n<function={function['name']}>\n{''.join(parts)}</function>\n</tool_call>"


def _with_keys(function: dict[str, Any]) -> str:
    arguments = function["arguments"].items()
    parts = [f"<arg_key>{key}</arg_key>\n<arg_value>{_plain(value)}</arg_value>\n" for key, value in arguments]
    return f"<tool_call>{function['name']}\n{''.join(parts)}</tool_call>"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
