"""The fields of a request that are about tools, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, field_validator

from tunesmith_api.chat.definitions import ToolsError, read_tools
from tunesmith_serving.engines.text_generation.openai.messages import explain

_CHOICES = (
    'must be "none", "auto", "required" or {"type": "function", "function": {"name": "..."}}; or '
    '{"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {...}}]}}'
)


def _read_tools(value: object) -> tuple[dict[str, Any], ...]:
    if value is None:
        return ()
    try:
        return tuple(read_tools(value))
    except ToolsError as error:
        raise ValueError(explain(error)) from None


Tools = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_read_tools)]
"""Functions, as chat templates get them."""


@dataclass(frozen=True)
class ToolChoice:
    """What `tool_choice` asks for.

    Attributes:
        mode: Whether the answer may call tools, or has to.
        names: The functions that may be called; None for all.
    """

    mode: Literal["none", "auto", "required"] = "auto"
    names: tuple[str, ...] | None = None


def _read_choice(value: object) -> ToolChoice:
    if value is None or value == "auto":
        return ToolChoice()
    if value == "none":
        return ToolChoice("none")
    if value == "required":
        return ToolChoice("required")
    if isinstance(value, dict) and value.get("type") == "function":
        return ToolChoice("required", (_name(value),))
    if isinstance(value, dict) and value.get("type") == "allowed_tools":
        allowed = value.get("allowed_tools", value)
        tools = allowed.get("tools") if isinstance(allowed, dict) else None
        mode = allowed.get("mode", "auto") if isinstance(allowed, dict) else None
        if isinstance(tools, list) and tools and mode in ("auto", "required"):
            return ToolChoice(mode, tuple(_name(tool) for tool in tools))
    raise ValueError(_CHOICES)


def _name(value: object) -> str:
    function = value.get("function", value) if isinstance(value, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise ValueError(_CHOICES)
    return name


class ToolFields(BaseModel):
    """The fields."""

    model_config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)

    tools: Tools = ()
    tool_choice: Annotated[ToolChoice, BeforeValidator(_read_choice)] = ToolChoice()
    parallel_tool_calls: bool | None = None

    @field_validator("tool_choice")
    @classmethod
    def _of_these_tools(cls, value: ToolChoice, info: Any) -> ToolChoice:  # noqa: ANN401
        tools = info.data.get("tools")
        if tools is None:  # they are wrong themselves
            return value
        names = [tool["function"]["name"] for tool in tools]
        if value.mode == "required" and not names:
            raise ValueError("needs tools; give some, or leave it out")
        for name in value.names or ():
            if name not in names:
                raise ValueError(f"there is no function {name!r} in tools; there are {', '.join(names) or 'none'}")
        return value

    @property
    def shown_tools(self) -> tuple[dict[str, Any], ...]:
        """The functions that the model is told of: none if it may not call any."""
        return () if self.tool_choice.mode == "none" else self.tools

    @property
    def callable_tools(self) -> tuple[dict[str, Any], ...]:
        """The functions that the answer may call."""
        names = self.tool_choice.names
        return tuple(tool for tool in self.shown_tools if names is None or tool["function"]["name"] in names)
