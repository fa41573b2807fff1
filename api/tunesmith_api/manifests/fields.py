"""Looks up the fields of models: by location, and by a misspelt name."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tunesmith_api.manifests.nodes import Location, path_of
from tunesmith_api.spec.choice import OneOf


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the models in a field's type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a model by their names in a manifest."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def field_at(model: type[BaseModel], location: Location) -> FieldInfo | None:
    """Return the field at a location below a model; for an item of a list or a map, the field that holds it."""
    found: FieldInfo | None = None
    current: type[BaseModel] | None = model
    for step in location:
        if current is None or not isinstance(step, str):
            continue
        found = fields_of(current).get(step)
        current = next(models_in(found.annotation), None) if found else None
    return found


def model_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """Return the model of the object at a location."""
    field = field_at(model, location)
    return next(models_in(field.annotation), None) if field else model if not location else None


def example_of(field: FieldInfo | None) -> Any:  # noqa: ANN401 - any JSON value
    """Return a valid value of a field; None if none is known."""
    if field is None:
        return None
    if field.examples:
        return field.examples[0]
    default = field.get_default(call_default_factory=True)
    if isinstance(default, str | int | float | bool):
        return default if type(default) in (str, int, float, bool) else str(default)
    choices = choices_of(field.annotation) or next((c for item in field.metadata if (c := choices_of(item))), [])
    return choices[0] if choices else None


def choices_of(annotation: object) -> list[str]:
    """Return the values of a field that takes one of a fixed list; empty for any other field."""
    if typing.get_origin(annotation) is typing.Literal:
        return [str(value) for value in typing.get_args(annotation)]
    if isinstance(annotation, OneOf):
        return annotation.names
    found = [choices_of(argument) for argument in typing.get_args(annotation)]
    return next((choices for choices in found if choices), [])


def closest(word: str, words: typing.Iterable[str]) -> str | None:
    """Return the word that was probably meant; None if none is close."""
    by_form = {_form(candidate): candidate for candidate in words}
    near = difflib.get_close_matches(_form(word), by_form, n=1, cutoff=0.7)
    return by_form[near[0]] if near else None


def places_of(model: type[BaseModel], name: str, location: tuple[str | int, ...] = ()) -> Iterator[str]:
    """Yield the paths of a model's fields with this name, at any depth."""
    for alias, field in fields_of(model).items():
        inner = [*location, alias]
        if alias == name:
            yield path_of(inner)
        is_list = typing.get_origin(field.annotation) is tuple or "tuple[" in str(field.annotation)
        for part in models_in(field.annotation):
            yield from places_of(part, name, (*inner, 0) if is_list else tuple(inner))


def _form(word: str) -> str:
    return word.replace("_", "").replace("-", "").casefold()
