"""JSON schemas of the kind that the public JSON-Schema-Test-Suite has, and answers that follow them by chance."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tunesmith_serving.engines.text_generation.batching.constraint import Constraint
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer

Schema = dict[str, Any]


def closed(properties: Schema, required: list[str] | None = None, **more: Any) -> Schema:
    """An object with these properties and no others; all are required unless `required` says which."""
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False, **more}


WORD = {"type": "string", "maxLength": 8}
# By keyword, as the suite's files are. None must be trivial: an answer can break each.
WRITTEN: dict[str, list[Schema]] = {
    "type": [
        {"type": kind, **({"maxLength": 20} if kind == "string" else {})}
        for kind in ("string", "integer", "number", "boolean", "null")
    ] + [{"type": ["integer", "null"]}, {"type": ["boolean", "string"], "maxLength": 5}],
    "enum": [
        {"enum": [1, 2, 3]}, {"enum": ["a", "b\nc", 'd"e', "f\\g"]}, {"enum": [6, "foo", [], True, {"foo": 12}]},
        {"enum": [None]}, {"enum": [[False]]}, {"enum": [0, False]}, {"enum": ["東京", "Köln", "🙂"]},
        {"type": "string", "enum": ["x", 1, "y"]}, {"enum": ["hello\u0000there"]}, {"enum": [1.5, -2.5e3]},
    ],
    "const": [
        {"const": 2}, {"const": {"foo": "bar", "baz": "bax"}}, {"const": [{"foo": "bar"}]}, {"const": None},
        {"const": "a\tb"}, {"const": {"a": {"b": [1, {"c": None}]}}}, {"const": 9007199254740992},
    ],
    "required": [
        closed({"foo": WORD, "bar": WORD}), closed({"foo": WORD, "bar": {"type": "integer"}}, ["bar"]),
        closed({"foo": WORD}, []), closed({'foo"bar': WORD, "foo\nbar": WORD}),
        {"type": "object", "required": ["a"], "additionalProperties": {"type": "boolean"}},
    ],
    "properties": [
        closed({"foo": {"type": "array", "maxItems": 3, "items": {"type": "integer"}}, "bar": {"type": "array"}}),
        closed({"$ref": {"type": "boolean"}}), closed({"東京": {"type": "boolean"}, "🙂": {"type": "null"}}),
        closed({"__proto__": {"type": "number"}, "toString": {"type": "boolean"}}), closed({"": WORD}),
    ],
    "additionalProperties": [
        {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 4},
        {"type": "object", "properties": {"a": WORD}, "required": ["a"], "additionalProperties": {"type": "boolean"}},
        {"type": "object", "additionalProperties": False},
    ],
    "patternProperties": [
        {"type": "object", "patternProperties": {"^x_[a-z]{1,4}$": {"type": "integer"}}, "additionalProperties": False},
        {"type": "object", "patternProperties": {"^a": {"type": "null"}, "^b": {"type": "boolean"}},
         "additionalProperties": False},
    ],
    "minProperties": [
        {"type": "object", "minProperties": 1, "additionalProperties": {"type": "boolean"}},
        closed({"a": WORD, "b": WORD}, [], minProperties=1), {"type": "object", "maxProperties": 0},
    ],
    "items": [
        {"type": "array", "items": {"type": "integer"}, "maxItems": 5}, {"type": "array", "items": False},
        {"type": "array", "items": {"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 2}, "maxItems": 3},
        {"type": "array", "items": closed({"id": {"type": "integer"}, "ok": {"type": "boolean"}}), "minItems": 2,
         "maxItems": 4},
    ],
    "prefixItems": [
        {"type": "array", "prefixItems": [{"type": "integer"}, WORD], "items": False, "minItems": 2},
        {"type": "array", "prefixItems": [{"const": "a"}], "items": {"type": "boolean"}, "minItems": 3, "maxItems": 5},
    ],
    "minItems": [
        {"type": "array", "items": {"type": "boolean"}, "minItems": 4}, {"type": "array", "maxItems": 0},
        {"type": "array", "items": {"type": "null"}, "minItems": 2, "maxItems": 2},
    ],
    "minLength": [
        {"type": "string", "minLength": 5, "maxLength": 5}, {"type": "string", "minLength": 30},
        {"type": "string", "maxLength": 0}, {"type": "string", "maxLength": 2},
    ],
    "pattern": [
        {"type": "string", "pattern": p} for p in (
            "^a*$", "^[A-Z]{2}-[0-9]{4}$", "^(foo|bar)+$", "^\\d{3}-\\d{4}$", "^\\S+$", "^[^x]{2,4}$", "^é{1,3}$",
            "^#[0-9a-fA-F]{6}$", "^a|^bc?$",
        )
    ],
    "format": [{"type": "string", "format": f} for f in ("date", "ipv4", "ipv6", "uuid", "email", "time", "date-time")],
    "minimum": [
        {"type": "integer", "minimum": 3}, {"type": "integer", "minimum": -5, "maximum": 5},
        {"type": "number", "minimum": 1.1}, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "integer", "exclusiveMinimum": 10, "exclusiveMaximum": 12}, {"type": "number", "maximum": -3.5},
        {"type": "number", "minimum": 0, "maximum": 0}, {"type": "integer", "minimum": 1000000, "maximum": 1000001},
    ],
    "multipleOf": [
        {"type": "integer", "multipleOf": 7}, {"type": "number", "multipleOf": 0.5, "minimum": 0},
        {"type": "integer", "multipleOf": 10, "minimum": 5, "maximum": 95},
    ],
    "anyOf": [
        {"anyOf": [{"type": "integer"}, {"type": "string", "minLength": 2, "maxLength": 4}]},
        {"anyOf": [closed({"a": WORD}), closed({"b": {"type": "integer"}})]},
        {"type": "string", "anyOf": [{"maxLength": 2}, {"minLength": 4, "maxLength": 6}]},
        {"anyOf": [{"type": "null"}, {"anyOf": [{"const": 1}, {"const": [2]}]}]},
    ],
    "oneOf": [
        {"oneOf": [{"type": "integer"}, {"type": "boolean"}]},
        {"oneOf": [closed({"kind": {"const": "a"}, "x": {"type": "integer"}}),
                   closed({"kind": {"const": "b"}, "y": {"type": "boolean"}})]},
    ],
    "allOf": [
        {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 9}]},
        {"type": "object", "allOf": [{"properties": {"a": WORD}, "required": ["a"]},
                                     {"properties": {"b": {"type": "null"}}, "required": ["b"]}],
         "maxProperties": 2},
        {"allOf": [{"type": "string", "minLength": 2}, {"maxLength": 4}]},
    ],
    "ref": [
        {"$defs": {"a": {"type": "integer"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/b"},
        {**closed({"value": {"enum": [1, 2]}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}})},
        {"$defs": {"t~e": {"type": "boolean"}, "s/h": {"type": "null"}, "p%t": {"const": 1}},
         **closed({"a": {"$ref": "#/$defs/t~0e"}, "b": {"$ref": "#/$defs/s~1h"}, "c": {"$ref": "#/$defs/p%25t"}})},
        {"definitions": {"node": closed({"name": WORD, "children": {"type": "array", "maxItems": 2,
                                                                  "items": {"$ref": "#/definitions/node"}}})},
         "$ref": "#/definitions/node"},
        {"$defs": {"s": {"$anchor": "here", "enum": ["u", "v"]}}, "type": "array", "items": {"$ref": "#here"},
         "minItems": 1, "maxItems": 3},
    ],
    "annotations": [
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A", "description": "b", "default": 3,
         "examples": [1], "deprecated": True, "$comment": "c", "type": "integer", "readOnly": True},
    ],
}  # fmt: skip
SUITE = [schema for schemas in WRITTEN.values() for schema in schemas]
NAMES = ["id", "name", "größe", "価格", "is ok", "a.b", "x-y", "tags", "children", "value", '"q"', "unit"]


def make_schemas(count: int, seed: int = 0) -> Iterator[Schema]:
    """Yield those of `SUITE`, then others in which the same keywords are put together by chance."""
    yield from SUITE[:count]
    rng = np.random.default_rng(seed)
    for _ in range(count - len(SUITE)):
        schema = _composed(rng, 3)
        if rng.random() < 0.3:
            schema = {"$defs": {"part": schema}, **closed({"one": {"$ref": "#/$defs/part"}, "two": _leaf(rng)})}
        yield schema


def _composed(rng: np.random.Generator, depth: int) -> Schema:
    if depth == 0 or rng.random() < 0.15:
        return _leaf(rng)
    kind = rng.integers(4)
    if kind == 0:
        least = int(rng.integers(3))
        return {"type": "array", "items": _composed(rng, depth - 1), "minItems": least,
                "maxItems": least + int(rng.integers(3))}  # fmt: skip
    if kind == 1:
        return {"anyOf": [_composed(rng, depth - 1) for _ in range(2)]}
    if kind == 2:
        parts = [_composed(rng, depth - 1) for _ in range(int(rng.integers(1, 3)))]
        return {"type": "array", "prefixItems": parts, "items": False, "minItems": len(parts)}
    names = [str(name) for name in rng.permutation(NAMES)[: rng.integers(1, 5)]]
    properties = {name: _composed(rng, depth - 1) for name in names}
    return closed(properties, [name for name in names if rng.random() < 0.7])


def _leaf(rng: np.random.Generator) -> Schema:
    kind = rng.integers(8)
    low = int(rng.integers(-1000, 1000))
    if kind == 0:
        return {"type": "integer", "minimum": low, "maximum": low + int(rng.integers(1, 5000))}
    if kind == 1:
        return {"type": "number", "exclusiveMinimum": low / 8, "maximum": low / 8 + float(rng.integers(1, 90))}
    if kind == 2:
        least = int(rng.integers(4))
        return {"type": "string", "minLength": least, "maxLength": least + int(rng.integers(9))}
    if kind == 3:
        return {"type": ["boolean", "null"]}
    if kind == 4:
        return {"enum": [str(name) for name in rng.permutation(NAMES)[:3]]}
    simple = [entry for key in ("const", "pattern", "format", "multipleOf", "minimum") for entry in WRITTEN[key]]
    return simple[int(rng.integers(len(simple)))]


def closing_tokens(tokenizer: Tokenizer) -> dict[int, float]:
    """The tokens that end a text, a number, a list or an object, or that many formats need, and how much they do."""
    ends = {'"': 3, '"}': 3, '"]': 3, "}": 1, "]": 1, "}}": 1, "]]": 1, ",": 0.5, "@": 1, "a": 1}
    by_text = ((token, ends.get(tokenizer.token(token))) for token in range(tokenizer.vocab_size))
    return {token: value for token, value in by_text if value is not None}


def follow(
    constraint: Constraint, tokenizer: Tokenizer, rng: np.random.Generator, vocab_size: int, stop: int, most: int = 600
) -> tuple[str, bool]:
    """The text of tokens taken by chance among those that are allowed, and whether it is complete.

    The longer the text, the likelier are tokens that bring it to an end.
    """
    closing = {**closing_tokens(tokenizer), stop: 3.0}
    bias = np.zeros(vocab_size, np.float32)
    bias[list(closing)] = list(closing.values())
    tokens: list[int] = []
    while not constraint.done and len(tokens) < most:
        logits = rng.normal(size=vocab_size).astype(np.float32) + bias * np.float32(len(tokens) / 20)
        constraint.allow(logits)
        token = int(logits.argmax())
        assert np.isfinite(logits[token])
        if token == stop:
            return tokenizer.decode(tokens), True
        constraint.accept(token)
        tokens.append(token)
    return tokenizer.decode(tokens), constraint.done
