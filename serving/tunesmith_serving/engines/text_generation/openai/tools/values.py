"""The values of parameters that a model writes as plain text, by the schema of a function's parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tunesmith_api.chat.definitions import parse_json

Schema = Mapping[str, Any]

# How some chat templates write these values, as Python does.
_WORDS = {"True": True, "False": False, "None": None}
_MOST_REFERENCES = 16


class Parameters:
    """The parameters of one function.

    Attributes:
        schema: Their schema.
        properties: The schema of each.
    """

    def __init__(self, schema: Schema | None) -> None:
        self.schema: Schema = schema or {}
        given = self.schema.get("properties")
        self.properties: dict[str, Any] = dict(given) if isinstance(given, dict) else {}

    def resolved(self, schema: object) -> Schema:
        """Return a schema without `$ref` at its top; an empty one if there is none."""
        for _ in range(_MOST_REFERENCES):
            if not isinstance(schema, dict):
                return {}
            reference = schema.get("$ref")
            if not isinstance(reference, str):
                return schema
            schema = self._lookup(reference)
        return {}

    def _lookup(self, reference: str) -> object:
        found: object = self.schema
        for part in reference.removeprefix("#").split("/")[1:]:
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        return found

    def types(self, schema: object) -> frozenset[str] | None:
        """Return the types of values that a schema takes; None for any."""
        return self._types(schema, _MOST_REFERENCES)

    def _types(self, schema: object, depth: int) -> frozenset[str] | None:
        known = self.resolved(schema)
        given = known.get("type")
        if isinstance(given, str):
            return frozenset({given})
        if isinstance(given, list):
            return frozenset(name for name in given if isinstance(name, str))
        for keyword in ("anyOf", "oneOf"):
            if isinstance(parts := known.get(keyword), list) and parts and depth:
                each = [self._types(part, depth - 1) for part in parts]
                return None if None in each else frozenset().union(*(types for types in each if types))
        return None

    def choices(self, schema: object) -> list[Any] | None:
        """Return the values that a schema lists; None if it lists none."""
        known = self.resolved(schema)
        if "const" in known:
            return [known["const"]]
        return known["enum"] if isinstance(known.get("enum"), list) and known["enum"] else None

    def is_text(self, schema: object) -> bool:
        """Return whether each text is a value as it is."""
        return self.choices(schema) is None and self.types(schema) == frozenset({"string"})

    def value(self, name: str, text: str) -> Any:  # noqa: ANN401 - any JSON value
        """Return the value of a parameter that the model wrote as `text`; the text itself if it is no other one."""
        schema = self.properties.get(name)
        if self.is_text(schema):
            return text
        for choice in self.choices(schema) or ():
            if text == as_text(choice):
                return choice
        types = self.types(schema)
        word = text.strip()
        try:
            value = _WORDS[word] if word in _WORDS else parse_json(text)
        except ValueError:
            return text
        if isinstance(value, str) and (types is None or "string" in types):
            return text
        return value if types is None or types & _types_of(value) else text


def as_text(value: object) -> str:
    """Return a value as chat templates write it: a text as it is, else JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _types_of(value: object) -> frozenset[str]:
    if value is None:
        return frozenset({"null"})
    if isinstance(value, bool):
        return frozenset({"boolean"})
    if isinstance(value, int):
        return frozenset({"integer", "number"})
    if isinstance(value, float):
        return frozenset({"number", "integer"} if value.is_integer() else {"number"})
    if isinstance(value, str):
        return frozenset({"string"})
    return frozenset({"array"} if isinstance(value, list) else {"object"})
