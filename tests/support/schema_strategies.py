"""Hypothesis strategies for values that a structural schema takes."""

import re
from typing import Any

from hypothesis import strategies as st

_ONE_OF = re.compile(r"has\(self\.(\w+)\) != has\(self\.(\w+)\)")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def from_schema(schema: dict[str, Any], depth: int = 6, *, one_of: bool = False) -> st.SearchStrategy[Any]:
    """Return a strategy for values with the types and bounds of a schema; its rules may be broken.

    Args:
        schema: A structural schema.
        depth: How deep optional objects are filled.
        one_of: Keep the rules that demand exactly one of two fields.
    """
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return _string(schema)
    match schema.get("type"):
        case "object" if "properties" in schema:
            return _object(schema, depth, one_of)
        case "object":
            most = min(schema.get("maxProperties", 3), 3)
            inner = from_schema(schema.get("additionalProperties", {"type": "string"}), depth, one_of=one_of)
            return st.dictionaries(st.text(_LETTERS, min_size=1, max_size=8), inner, max_size=most)
        case "array":
            least = schema.get("minItems", 0)
            most = min(schema.get("maxItems", 3), max(least, 3))
            return st.lists(from_schema(schema["items"], depth - 1, one_of=one_of), min_size=least, max_size=most)
        case "string":
            return _string(schema)
        case "integer":
            low, high = schema.get("minimum", -(2**31)), schema.get("maximum", 2**31)
            small = st.integers(low, min(high, low + 16))
            return small | st.integers(low, high)
        case "number":
            return st.floats(
                schema.get("minimum", -1e6),
                schema.get("maximum", 1e6),
                exclude_min=schema.get("exclusiveMinimum", False),
                exclude_max=schema.get("exclusiveMaximum", False),
                allow_nan=False,
                allow_infinity=False,
                allow_subnormal=False,
            )
        case "boolean":
            return st.booleans()
    return st.none() | st.booleans() | st.integers(-9, 9) | st.text(_LETTERS)


def _object(schema: dict[str, Any], depth: int, one_of: bool) -> st.SearchStrategy[dict[str, Any]]:
    required = set(schema.get("required", ()))
    fields = {
        name: from_schema(field, depth - 1, one_of=one_of)
        for name, field in schema["properties"].items()
        if name in required or depth > 0 or "properties" not in field
    }
    rules = " ".join(rule["rule"] for rule in schema.get("x-kubernetes-validations", ()))
    if one_of and (choice := _ONE_OF.search(rules)):
        variants = [(chosen, other) for chosen, other in (choice.groups(), choice.groups()[::-1]) if chosen in fields]
        return st.one_of([_fixed(fields, required | {chosen}, {other}) for chosen, other in variants])
    return _fixed(fields, required, set())


def _fixed(
    fields: dict[str, st.SearchStrategy[Any]], required: set[str], without: set[str]
) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {name: fields[name] for name in fields if name in required},
        optional={name: fields[name] for name in fields if name not in required | without},
    )


def _string(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 64)
    if schema.get("format") == "date-time":
        return st.just("2026-01-01T00:00:00Z")
    if "pattern" in schema:
        matching = st.from_regex(schema["pattern"].replace("$", r"\Z"), fullmatch=True)
        return matching.filter(lambda text: least <= len(text) <= most and text.isprintable())
    return st.text(_LETTERS, min_size=least, max_size=min(most, least + 12))
