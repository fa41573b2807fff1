"""Checking a JSON schema before it is compiled: what cannot be enforced is refused with its place and a remedy."""

from collections.abc import Iterator
from typing import Any

from tunesmith_serving.engines.text_generation.structured.grammar import GrammarError

MAX_DEPTH = 64
MAX_SUBSCHEMAS = 2_000
# Keywords with one schema, a list of them, and an object of them.
ONE = ("additionalProperties", "items")
MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
NAMED = ("$defs", "definitions", "patternProperties", "properties")

_CASES = "use anyOf, with one schema for each case"
NOT_ENFORCED = {
    "$dynamicRef": "use $ref",
    "$recursiveRef": "use $ref",
    "contains": "describe all items by items or prefixItems",
    "dependencies": _CASES,
    "dependentRequired": _CASES,
    "dependentSchemas": _CASES,
    "else": _CASES,
    "if": _CASES,
    "maxContains": "describe all items by items or prefixItems",
    "minContains": "describe all items by items or prefixItems",
    "not": "say what is allowed, by enum, pattern or anyOf",
    "propertyNames": "use patternProperties with additionalProperties: false",
    "then": _CASES,
    "unevaluatedItems": "use items: false beside prefixItems",
    "unevaluatedProperties": "use additionalProperties",
    "uniqueItems": "use an object with one boolean property for each value that may be chosen",
}
# Values with which a keyword says nothing.
NEUTRAL: dict[str, object] = {"uniqueItems": False, "unevaluatedItems": True, "unevaluatedProperties": True}
FORMATS = (
    "date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid",
)  # fmt: skip


def checked(schema: Any, lenient: bool = False) -> Any:  # noqa: ANN401
    """Return a schema without keywords that say nothing.

    Args:
        schema: A JSON schema, which may be true or false.
        lenient: Whether keywords and formats that cannot be enforced are ignored.

    Raises:
        GrammarError: A part of it is not a schema, or cannot be enforced; or it is too large.
    """
    counter = iter(range(MAX_SUBSCHEMAS))
    return _checked(schema, (), lenient, counter)


def subschemas(schema: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:  # noqa: ANN401
    """Yield the schemas directly inside of a schema, with their paths."""
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        if keyword in ONE:
            yield (*path, keyword), value
        elif keyword in MANY and isinstance(value, list):
            yield from (((*path, keyword, index), part) for index, part in enumerate(value))
        elif keyword in NAMED and isinstance(value, dict):
            yield from (((*path, keyword, name), part) for name, part in value.items())


def path_text(path: tuple[str | int, ...]) -> str:
    """Return a path as `properties.a.anyOf[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _checked(schema: Any, path: tuple[str | int, ...], lenient: bool, counter: Iterator[int]) -> Any:  # noqa: ANN401
    if next(counter, None) is None:
        raise GrammarError(f"the schema holds more than {MAX_SUBSCHEMAS} schemas; use fewer")
    if len(path) > 3 * MAX_DEPTH:
        raise GrammarError("the schema is nested too deeply; use $ref and $defs")
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, dict):
        raise _error("must be a schema: an object, true or false", path)
    kept: dict[str, Any] = {}
    for keyword, value in schema.items():
        place = (*path, keyword)
        if keyword == "x-guidance" or (keyword in NEUTRAL and value is NEUTRAL[keyword]):
            continue
        if keyword in NOT_ENFORCED:
            if not lenient:
                raise _error(f"this keyword cannot be enforced; {NOT_ENFORCED[keyword]}", place, can_be_ignored=True)
            continue
        kept[keyword] = _value(keyword, value, place, lenient, counter)
    _check_size(kept, path, lenient)
    if kept.get("format", "date") not in FORMATS:
        if not lenient:
            formats = ", ".join(FORMATS)
            raise _error(f"must be one of {formats}; use pattern for others", (*path, "format"), True)
        del kept["format"]
    return kept


def _check_size(schema: dict[str, Any], path: tuple[str | int, ...], lenient: bool) -> None:
    """Refuse a number of properties that is not sure to be reached, since names that are free may come twice."""
    least, required = schema.get("minProperties"), schema.get("required")
    sure = max(1, len(required)) if isinstance(required, list) else 1
    if isinstance(least, int) and least > sure and not lenient:
        message = f"is enforced up to the number of required properties; name {least} of them in required"
        raise _error(message, (*path, "minProperties"), True)


def _value(keyword: str, value: Any, place: tuple[str | int, ...], lenient: bool, counter: Iterator[int]) -> Any:  # noqa: ANN401
    if keyword in ONE:
        if isinstance(value, list):
            raise _error("must be a schema; use prefixItems for one schema for each item", place)
        return _checked(value, place, lenient, counter)
    if keyword in MANY:
        if not isinstance(value, list) or not value:
            raise _error("must be a list of schemas, which is not empty", place)
        return [_checked(part, (*place, index), lenient, counter) for index, part in enumerate(value)]
    if keyword in NAMED:
        if not isinstance(value, dict):
            raise _error("must be an object of schemas", place)
        return {name: _checked(part, (*place, name), lenient, counter) for name, part in value.items()}
    if keyword == "$ref" and not (isinstance(value, str) and value.startswith("#")):
        raise _error('must be within the schema, as "#/$defs/NAME"; put what it refers to in $defs', place)
    return value


def _error(message: str, path: tuple[str | int, ...], can_be_ignored: bool = False) -> GrammarError:
    return GrammarError(message, path_text(path), can_be_ignored)
