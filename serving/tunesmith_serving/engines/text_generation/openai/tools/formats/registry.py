"""The form of calls for each style of chat templates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tunesmith_api.chat.styles import ToolStyle, is_compact, tool_style
from tunesmith_serving.engines.text_generation.openai.tools.formats.base import CallFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.deepseek import DeepSeekFormat, PlainDeepSeekFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.glm import GlmFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.hermes import HermesFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.llama import LlamaFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.mistral import MistralFormat, NamedMistralFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.phi import PhiFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.qwen_coder import QwenCoderFormat

FORMATS: dict[ToolStyle, CallFormat] = {
    ToolStyle.HERMES: HermesFormat(),
    ToolStyle.LLAMA: LlamaFormat(),
    ToolStyle.MISTRAL: MistralFormat(),
    ToolStyle.PHI: PhiFormat(),
    ToolStyle.QWEN_CODER: QwenCoderFormat(),
    ToolStyle.GLM: GlmFormat(),
    ToolStyle.DEEPSEEK: DeepSeekFormat(),
}


def format_of(template: str, tools: Iterable[Mapping[str, Any]] = ()) -> CallFormat | None:
    """Return the form in which a model writes calls; None for no known one.

    Args:
        template: The model's chat template.
        tools: The functions that it may call, whose schemas say what a value without quotes is.
    """
    style = tool_style(template)
    if style is ToolStyle.QWEN_CODER:
        return QwenCoderFormat(tools)
    if style is ToolStyle.GLM:
        return GlmFormat(tools, is_compact(template))
    if style is ToolStyle.DEEPSEEK and is_compact(template):
        return PlainDeepSeekFormat()
    if style is ToolStyle.MISTRAL and is_compact(template):
        return NamedMistralFormat()
    return None if style is None else FORMATS[style]
