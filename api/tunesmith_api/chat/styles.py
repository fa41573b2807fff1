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


# A tag of Jinja, with the strings in it as wholes, so that what they contain does not end it.
_TAG = re.compile(
    r"""\{[%{](?P<code>(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?![%}]\})[^'"])*)[%}]\}""",
    re.DOTALL,
)
_STRING = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
_VARIABLE = re.compile(r"(?<![\w.])tools\b(?!\s*=[^=])")
_IN_MESSAGE = re.compile(r"""message(?:s\[0\])?(?:\[\s*['"]tools['"]\s*\]|\.tools\b)""")


@lru_cache(maxsize=16)
def tool_style(template: str) -> ToolStyle | None:
    """Return the form in which a model with this chat template writes calls; None for no known form."""
    if "[TOOL_CALLS]" in template:
        return ToolStyle.MISTRAL
    if "<tool_call>" in template:
        # Qwen3-Coder and GLM put their own markup between the same marks.
        return None if "<function=" in template or "<arg_key>" in template else ToolStyle.HERMES
    if "<|tool_call|>" in template or "<|tool|>" in template or "functools[" in template:
        return ToolStyle.PHI
    if "<|start_header_id|>" in template and '"parameters"' in template.replace("\\", ""):
        return ToolStyle.LLAMA
    return None


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
    if style is ToolStyle.LLAMA:
        return "; ".join(_json({"name": one["name"], "parameters": one["arguments"]}) for one in functions)
    return "\n".join(f"<tool_call>\n{_json(one)}\n</tool_call>" for one in functions)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
