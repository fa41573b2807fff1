"""Turns the pydantic models into structural OpenAPI schemas, as a CustomResourceDefinition requires."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticUndefined, core_schema

from tunesmith_api.spec import Rule

Schema = dict[str, Any]

# Copied unchanged into a structural schema, in this order.
_KEPT = (
    "description",
    "type",
    "format",
    "default",
    "enum",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "properties",
    "items",
    "additionalProperties",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
)
# Dropped: names of Python classes, the refusal of unknown fields (the API server's own), examples (for people only).
_DROPPED = {"title", "examples"}
# A node with one of these has no type.
_UNTYPED = {"x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"}
_FORMATS = {"integer": "int64", "number": "double"}


class SchemaError(ValueError):
    """A model has something that a structural schema cannot express."""


def rules_of(model: type[BaseModel]) -> tuple[Rule, ...]:
    """Return the rules over several fields of a model."""
    return tuple(getattr(model, "rules", ()))


class _Generator(GenerateJsonSchema):
    """Generates JSON Schema with CEL rules, without null for optional fields, and with the necessary defaults only."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Return the schema of the value: an optional field is left out, never null."""
        return self.generate_inner(schema["schema"])

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Return the schema of a model with its rules."""
        result = super().model_schema(schema)
        if rules := rules_of(schema["cls"]):
            result["x-kubernetes-validations"] = [{"rule": rule.cel, "message": rule.message} for rule in rules]
        return result

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Return the schema with its default: none for None, and `{}` where the defaults of the fields add the rest."""
        inner = self.generate_inner(schema["schema"])
        default = schema.get("default", PydanticUndefined)
        if default is PydanticUndefined or default is None:
            return inner
        if isinstance(default, BaseModel):
            value: Any = default.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        else:
            value = self.encode_default(default)
        return {"allOf": [inner], "default": value} if "$ref" in inner else {**inner, "default": value}


def model_schema(model: type[BaseModel]) -> Schema:
    """Return the structural schema of a model: no references, bounds and descriptions everywhere.

    Raises:
        SchemaError: A field has no description, or its type has no structural schema.
    """
    raw = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    return _structural(raw, raw.get("$defs", {}), model.__name__)


def _structural(schema: Schema, definitions: Schema, path: str) -> Schema:
    schema = _resolve(schema, definitions)
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if unknown := set(schema) - set(_KEPT) - _DROPPED:
        raise SchemaError(f"{path}: a structural schema has no {', '.join(sorted(unknown))}")
    for bound in ("Minimum", "Maximum"):
        if (value := schema.pop(f"exclusive{bound}", None)) is not None:
            schema |= {bound.lower(): value, f"exclusive{bound}": True}
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
    kind = schema.get("type")
    if kind in _FORMATS:
        schema.setdefault("format", _FORMATS[kind])
    if kind == "object":
        _object(schema, definitions, path)
    elif kind == "array":
        schema["items"] = _structural(schema["items"], definitions, f"{path}[]")
    elif kind is None and not _UNTYPED & set(schema):
        raise SchemaError(f"{path}: the type is not one that a structural schema has")
    return {key: schema[key] for key in _KEPT if key in schema}


def _object(schema: Schema, definitions: Schema, path: str) -> None:
    """Make the schema of an object structural, in place: either named fields, or a map."""
    others = schema.pop("additionalProperties", None)
    if "properties" not in schema:
        if isinstance(others, dict):
            schema["additionalProperties"] = _structural(others, definitions, f"{path}.*")
        return
    fields = {name: _structural(field, definitions, f"{path}.{name}") for name, field in schema["properties"].items()}
    for name, field in fields.items():
        if not field.get("description", "").strip():
            raise SchemaError(f"{path}.{name} has no description")
    schema["properties"] = fields


def _resolve(schema: Schema, definitions: Schema) -> Schema:
    """Return a schema without `$ref` and `allOf`. Keywords beside a reference override those of its target."""
    schema = {key: value for key, value in schema.items() if key != "$defs"}
    while "$ref" in schema or "allOf" in schema:
        inner: Schema = {}
        if reference := schema.pop("$ref", None):
            inner = definitions[reference.rsplit("/", 1)[1]]
        for part in schema.pop("allOf", ()):
            inner = {**inner, **part}
        schema = {**inner, **schema}
    return schema
