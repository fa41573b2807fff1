"""Generates `docs/api.md`: every field of both kinds, from the schemas that the API server enforces."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pydantic import BaseModel

from tunesmith_api.codegen.schema import Schema, model_schema
from tunesmith_api.objects.finetunejob import FineTuneJob
from tunesmith_api.objects.inferenceworkspace import InferenceWorkspace
from tunesmith_api.objects.metadata import API_VERSION

_INTRODUCTION = f"""\
# API

<!-- Written by `make crds` from the API models. Change the models, not this file. -->

Group and version: `{API_VERSION}`. The API server rejects an object that breaks a rule on this page, and
`tunesmith validate -f` reports it in the same words. A field that is not on this page is rejected too.

The API server writes every default into the object; without a cluster the same defaults apply.
"""
_SHORT_NAMES = {"FineTuneJob": "ftj", "InferenceWorkspace": "iw"}


def api_reference() -> str:
    """Return docs/api.md."""
    return "\n".join([_INTRODUCTION, *(_kind(model) for model in (FineTuneJob, InferenceWorkspace))])


def _kind(model: type[BaseModel]) -> str:
    name = model.__name__
    schema = model_schema(model)
    parts = [f"## {name}\n\n{schema['description']} Short name: `{_SHORT_NAMES[name]}`.\n"]
    for path, part in _objects(schema["properties"]["spec"], "spec"):
        parts.append(f"### {name} `{path}`\n\n{part['description']}\n\n{_table(part)}{_rules(part)}")
    parts.append(f"### {name} `status`\n\nWritten by Tunesmith; do not edit it.\n\n{_status_table(schema)}")
    return "\n".join(parts)


def _objects(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield an object with its path, then the objects in it, in the order of the fields."""
    yield path, schema
    for name, field in schema["properties"].items():
        inner, suffix = (field["items"], "[]") if field.get("type") == "array" else (field, "")
        if "properties" in inner:
            # Training rows and validation rows have the same kind of source, so it is described once.
            if path.endswith("validation") and name == "sources":
                continue
            yield from _objects({"description": field["description"], **inner}, f"{path}.{name}{suffix}")


def _table(schema: Schema) -> str:
    lines = ["| field | type | default | description |", "|---|---|---|---|"]
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        default = "required" if name in required else _default(field)
        bounds = f" {text}." if (text := _bounds(field)) else ""
        lines.append(f"| `{name}` | {_type(field)} | {default} | {_cell(field['description'])}{_cell(bounds)} |")
    return "\n".join(lines) + "\n"


def _rules(schema: Schema) -> str:
    rules = schema.get("x-kubernetes-validations", ())
    lines = ["", "Rules:", *(f"- {_cell(rule['message'])}" for rule in rules)] if rules else []
    return "".join(f"{line}\n" for line in lines)


def _status_table(schema: Schema) -> str:
    lines = ["| field | type | description |", "|---|---|---|"]
    for path, field in _leaves(schema["properties"]["status"]["properties"], ""):
        lines.append(f"| `{path}` | {_type(field)} | {_cell(field['description'])} |")
    return "\n".join(lines) + "\n"


def _leaves(fields: dict[str, Schema], prefix: str) -> Iterator[tuple[str, Schema]]:
    for name, field in fields.items():
        inner, suffix = field, ""
        if field.get("type") == "array":
            inner, suffix = field["items"], "[]"
        elif "additionalProperties" in field:
            inner, suffix = field["additionalProperties"], ".FIELD"
        yield f"{prefix}{name}", field
        if "properties" in inner:
            yield from _leaves(inner["properties"], f"{prefix}{name}{suffix}.")


def _type(field: Schema) -> str:
    kind = field.get("type")
    if kind == "array":
        return f"list of {_type(field['items'])}"
    if kind == "object" and "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}"
    if field.get("x-kubernetes-int-or-string"):
        return "string or integer"
    if values := field.get("enum"):
        return ", ".join(f"`{value}`" for value in values)
    return "time" if field.get("format") == "date-time" else str(kind or "any value")


def _default(field: Schema) -> str:
    return "" if field.get("default") in (None, {}, []) else f"`{json.dumps(field['default'])}`".replace('"', "")


def _bounds(field: Schema) -> str:
    """Return the bounds of a value, in words; none where it may be of several types."""
    if field.get("x-kubernetes-int-or-string"):
        return ""
    texts = []
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None:
        texts.append(f"{'above' if field.get('exclusiveMinimum') else 'at least'} {low:,}")
    if high is not None:
        texts.append(f"{'below' if field.get('exclusiveMaximum') else 'at most'} {high:,}")
    if (most := field.get("maxItems")) is not None:
        texts.append(f"at most {most} items")
    if (most := field.get("maxProperties")) is not None:
        texts.append(f"at most {most} entries")
    if (most := field.get("maxLength")) is not None:
        texts.append(f"at most {most:,} characters")
    return ", ".join(texts).capitalize()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
