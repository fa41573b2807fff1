"""The functions that a model may call and the calls that it made, in OpenAI's form, checked and brought into one form.

A request of the server and a row of training data are read by the same functions, so that a template gets the same
values of both.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
"""What the name of a function may be."""

TOOL_SHAPE = '{"type": "function", "function": {"name": "...", "description": "...", "parameters": {...}}}'
CALL_SHAPE = '{"id": "...", "type": "function", "function": {"name": "...", "arguments": "{...}"}}'

# Fields of a function that come first, in this order; the rest follows as it is given.
_ORDER = ("name", "description", "parameters")


class ToolsError(ValueError):
    """Tools or calls are not in OpenAI's form.

    Attributes:
        path: Where, from the list on: `[0].function.name`.
        problem: What is wrong there.
        remedy: What to write instead.
    """

    def __init__(self, path: str, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem
        self.remedy = remedy


def read_tools(value: object) -> list[dict[str, Any]]:
    """Return the tools with their fields in one order, without those that are null.

    Raises:
        ToolsError: They are not a list of functions with different names.
    """
    tools: list[dict[str, Any]] = []
    for index, tool in enumerate(_list(value, TOOL_SHAPE)):
        path = f"[{index}]"
        if not isinstance(tool, dict) or tool.get("type") != "function":
            given = tool.get("type") if isinstance(tool, dict) else tool
            _fail(path, f"type is {_shown(given)}; only functions are supported", f"Write {TOOL_SHAPE}")
        function = tool.get("function")
        if not isinstance(function, dict):
            _fail(f"{path}.function", f"is {_shown(function)}, not an object", f"Write {TOOL_SHAPE}")
        where = f"{path}.function"
        name = _name(where, function)
        if any(name == other["function"]["name"] for other in tools):
            _fail(f"{where}.name", f"{name!r} is the name of an earlier function too", "Give each its own name")
        if not isinstance(function.get("description"), str | None):
            _fail(f"{where}.description", "is not a text", "Write a text, or leave it out")
        if not isinstance(function.get("parameters"), dict | None):
            _fail(f"{where}.parameters", "is not an object", 'Write a JSON schema: {"type": "object", ...}')
        if not isinstance(function.get("strict"), bool | None):
            _fail(f"{where}.strict", "is not a boolean", "Write true or false, or leave it out")
        names = [*_ORDER, *(key for key in function if key not in _ORDER)]
        known = {key: function[key] for key in names if function.get(key) is not None}
        tools.append({"type": "function", "function": known})
    return tools


def read_calls(value: object) -> list[dict[str, Any]]:
    """Return the calls of a message as chat templates get them: the arguments as an object instead of its text.

    Raises:
        ToolsError: They are not a list of calls, or the arguments are not an object.
    """
    calls: list[dict[str, Any]] = []
    for index, call in enumerate(_list(value, CALL_SHAPE)):
        path = f"[{index}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or call.get("type") not in (None, "function"):
            _fail(path, f"is {_shown(call)}, not the call of a function", f"Write {CALL_SHAPE}")
        name = _name(f"{path}.function", function)
        arguments = _arguments(f"{path}.function.arguments", function.get("arguments"))
        given = call.get("id")
        if not isinstance(given, str | None):
            _fail(f"{path}.id", f"is {_shown(given)}, not a text", "Write a text, or leave it out")
        calls.append(
            {
                **({"id": given} if given else {}),
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
        )
    return calls


def as_openai(call: dict[str, Any]) -> dict[str, Any]:
    """Return a call that `read_calls` has made in OpenAI's form, with the arguments as text."""
    function = call["function"]
    return {**call, "function": {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}}


def parse_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of a JSON text.

    Raises:
        ValueError: It is none, has a number that JSON does not know, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _list(value: object, shape: str) -> list[Any]:
    if not isinstance(value, list):
        _fail("", f"is {_shown(value)}, not a list", f"Write [{shape}]")
    return value


def _name(path: str, function: dict[str, Any]) -> str:
    name = function.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        _fail(
            f"{path}.name",
            f"is {_shown(name)}",
            "Write a name of at most 128 letters, digits and the characters _ - . : /",
        )
    return name


def _arguments(path: str, value: object) -> dict[str, Any]:
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError as error:
            _fail(path, f"is not JSON: {error}", 'Write the text of an object, such as "{\\"city\\": \\"Berlin\\"}"')
    if not isinstance(value, dict):
        _fail(path, f"is {_shown(value)}, not an object", 'Write the text of an object, such as "{}"')
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fail(path: str, problem: str, remedy: str) -> NoReturn:
    raise ToolsError(path, problem, remedy)
