"""Translates pydantic's errors into plain words: what is wrong, and what to write instead."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tunesmith_api.manifests.fields import closest, example_of, field_at, fields_of, model_at, places_of
from tunesmith_api.manifests.nodes import NAME_FORM, Node, path_of, shown
from tunesmith_api.manifests.scalars import resolve_plain

Step = str | int
Explanation = tuple[tuple[Step, ...], str, str]
_FIRST_PART = re.compile(r"; |\. ")
_NAME_PATTERN = "^[a-z0-9]("

_BOUNDS = {
    "greater_than": ("gt", "must be above {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be below {}"),
    "less_than_equal": ("le", "must be at most {}"),
}
_SIZES = {
    "string_too_short": ("needs at least", "min_length"),
    "too_short": ("needs at least", "min_length"),
    "string_too_long": ("may have at most", "max_length"),
    "too_long": ("may have at most", "max_length"),
}
_TYPES = {
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
}


def explain_all(error: ValidationError, model: type[BaseModel], document: Node) -> list[Explanation]:
    """Return every error of a validation: its location, what is wrong, and what to do about it.

    Args:
        error: The error that the validation raised.
        model: The model.
        document: The document that was validated.
    """
    explained = [_explain(item, model, document) for item in error.errors(include_url=False)]
    locations = [location for location, _, _ in explained]
    # A list counts as empty if none of its items is valid; the errors of the items already say so.
    return [
        item
        for item in explained
        if not any(len(other) > len(item[0]) and other[: len(item[0])] == item[0] for other in locations)
    ]


def _explain(error: ErrorDetails, model: type[BaseModel], document: Node) -> Explanation:
    location = tuple(step for step in error["loc"] if step != "[key]")
    kind, value = error["type"], error["input"]
    context: Mapping[str, Any] = error.get("ctx", {})
    remedy = _write(model, location)
    if kind == "value_error":
        message, _, own_remedy = str(context["error"]).partition("; ")
        return _pointed(location, message, document), message, own_remedy or remedy
    if kind == "extra_forbidden":
        return location, *_unknown_field(model, location)
    if kind in ("literal_error", "enum"):
        return location, *_not_in_list(error, location)
    if kind == "string_pattern_mismatch":
        return location, _wrong_form(model, location, value), remedy
    message = _message(kind, context, value) or f"does not fit ({error['msg']})"
    if kind == "string_type" and isinstance(value, int | float):
        node = document.get(*location)
        remedy = f'write it in quotes: {location[-1]}: "{node.text if node else value}"'
    elif kind in ("int_type", "float_type", "bool_type") and isinstance(value, str) and _unquoted(value) == kind:
        remedy = f"write it without quotes: {location[-1]}: {value}"
    return location, message, remedy


def _pointed(location: tuple[Step, ...], message: str, document: Node) -> tuple[Step, ...]:
    """Return the location of the field that a rule's message begins with, if the object has that field."""
    inner = (*location, *message.split(maxsplit=1)[0].split("."))
    return inner if document.get(*inner) else location


def _unquoted(text: str) -> str:
    """Return the type error that removing the quotes around a text would correct; empty if it would correct none."""
    value = resolve_plain(text)
    if isinstance(value, bool):
        return "bool_type"
    return "int_type" if isinstance(value, int) else "float_type" if isinstance(value, float) else ""


def _message(kind: str, context: Mapping[str, Any], value: object) -> str | None:
    """Return what is wrong with a value; None for a kind of error without a message here."""
    if kind == "missing":
        return "is missing"
    if kind in _TYPES:
        return f"{_TYPES[kind]}, not {shown(value)}"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{words.format(number(context[key]))}, not {shown(value)}"
    if kind in _SIZES:
        words, key = _SIZES[kind]
        unit, units = ("character", "characters") if kind.startswith("string") else ("item", "items")
        count = context[key]
        actual = f", not {len(value):,}" if isinstance(value, str | list | dict) else ""
        return f"{words} {count:,} {unit if count == 1 else units}{actual}"
    return None


def number(value: float) -> str:
    """Format a number for people."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"


def _write(model: type[BaseModel], location: tuple[Step, ...]) -> str:
    """Return a remedy: what can be written at a location."""
    names = [step for step in location if isinstance(step, str)]
    field = field_at(model, location)
    example = example_of(field)
    name = names[-1] if names else ""
    if example is not None:
        return f"write for example {name}: {flow(example)}"
    inner = model_at(model, location)
    if inner is not None:
        return f"write an object with {', '.join(fields_of(inner))}"
    return f"write {name} as docs/api.md shows"


def flow(value: object) -> str:
    """Format a value as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def _unknown_field(model: type[BaseModel], location: tuple[Step, ...]) -> tuple[str, str]:
    name = str(location[-1])
    parent = model_at(model, location[:-1])
    known = fields_of(parent) if parent else {}
    where = path_of(location[:-1]) or model.__name__
    if meant := closest(name, known):
        return f"{where} has no field {shown(name)}", f"did you mean {meant}? Write {meant}, or remove it"
    places = [place for place in places_of(model, name) if place.startswith("spec")]
    if len(places) == 1:
        return f"{where} has no field {shown(name)}", f"write it as {places[0]}"
    return f"{where} has no field {shown(name)}", f"remove it; there are {', '.join(known)}"


def _not_in_list(error: ErrorDetails, location: tuple[Step, ...]) -> tuple[str, str]:
    expected = error.get("ctx", {})["expected"]
    words = [word.strip("'") for part in expected.split(" or ") for word in part.split(", ")]
    name = next((step for step in reversed(location) if isinstance(step, str)), "")
    meant = closest(error["input"], words) if isinstance(error["input"], str) else None
    value = shown(error["input"])
    one_of = f"must be {' or '.join(words)}" if len(words) < 3 else f"must be one of {', '.join(words)}"
    return f"{one_of}, not {value}", f"write {'' if meant else 'for example '}{name}: {meant or words[0]}"


def _wrong_form(model: type[BaseModel], location: tuple[Step, ...], value: object) -> str:
    """Return the message for a text that does not match its field's pattern."""
    field = field_at(model, location)
    if field is None:
        return f"cannot be {shown(value)}"
    if any(str(getattr(item, "pattern", "")).startswith(_NAME_PATTERN) for item in field.metadata):
        return f"{NAME_FORM}, not {shown(value)}"
    return f"cannot be {shown(value)} ({_FIRST_PART.split(field.description or '')[0].rstrip('.')})"
