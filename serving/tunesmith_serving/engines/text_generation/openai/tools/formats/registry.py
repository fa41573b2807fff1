"""The form of calls for each style of chat templates."""

from __future__ import annotations

from tunesmith_api.chat.styles import ToolStyle
from tunesmith_serving.engines.text_generation.openai.tools.formats.base import CallFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.hermes import HermesFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.llama import LlamaFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.mistral import MistralFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.phi import PhiFormat

FORMATS: dict[ToolStyle, CallFormat] = {
    ToolStyle.HERMES: HermesFormat(),
    ToolStyle.LLAMA: LlamaFormat(),
    ToolStyle.MISTRAL: MistralFormat(),
    ToolStyle.PHI: PhiFormat(),
}
