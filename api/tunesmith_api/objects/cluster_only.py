"""Marks the fields of a spec that have no effect without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Union, get_args, get_origin

from pydantic import BaseModel


@dataclass(frozen=True)
class ClusterOnly:
    """Metadata of a field that has an effect in a cluster only. It is not part of the schema."""


CLUSTER_ONLY = ClusterOnly()


def cluster_only_fields(model: type[BaseModel]) -> list[str]:
    """Return the fields of a spec that have no effect without a cluster, as in a manifest: `output.retain`.

    Args:
        model: The spec's model.

    Returns:
        Their dotted names, in the order of the model's fields. What a marked field contains is not listed again, and
        neither are the items of lists.
    """
    return list(_marked(model, ""))


def _marked(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        if CLUSTER_ONLY in field.metadata:
            yield path
        else:
            for inner in _models(field.annotation):
                yield from _marked(inner, f"{path}.")


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the models of an annotation `Model` or `Model | None`."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    for part in parts:
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part
