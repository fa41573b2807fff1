"""The form of calls for each style of chat templates."""

from __future__ import annotations

from tunesmith_api.chat.styles import ToolStyle, tool_style
from tunesmith_serving.engines.text_generation.openai.tools.formats.base import CallFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.hermes import HermesFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.llama import LlamaFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.mistral import MistralFormat, NamedMistralFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.phi import PhiFormat

FORMATS: dict[ToolStyle, CallFormat] = {
    ToolStyle.HERMES: HermesFormat(),
    ToolStyle.LLAMA: LlamaFormat(),
    ToolStyle.MISTRAL: MistralFormat(),
    ToolStyle.PHI: PhiFormat(),
}


def format_of(template: str) -> CallFormat | None:
    """Return the form in which a model with this chat template writes calls; None for no known one."""
    style = tool_style(template)
    if style is ToolStyle.MISTRAL and "[ARGS]" in template:
        return NamedMistralFormat()
    return None if style is None else FORMATS[style]
