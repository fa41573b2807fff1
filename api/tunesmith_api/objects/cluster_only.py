"""The fields of a spec that have no effect without a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from types import UnionType
from typing import Union, get_args, get_origin

from pydantic import BaseModel


@dataclass(frozen=True)
class ClusterOnly:
    """Annotates a field that has no effect without a cluster. It does not change the schema."""


def cluster_only_fields(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the fields that have no effect without a cluster, as dotted paths: `resources`, `output.retain`.

    Args:
        model: The model of a spec. The items of its lists are not looked at.
    """
    return tuple(_paths(model, ""))


def set_cluster_only_fields(spec: BaseModel) -> list[str]:
    """Return the `cluster_only_fields` that a spec sets to something other than their default."""
    return [path for path in cluster_only_fields(type(spec)) if _is_set(spec, path)]


def _paths(model: type[BaseModel], prefix: str) -> list[str]:
    found: list[str] = []
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        if any(isinstance(item, ClusterOnly) for item in field.metadata):
            found.append(path)
            continue
        is_optional = get_origin(field.annotation) in (Union, UnionType)
        for part in get_args(field.annotation) if is_optional else (field.annotation,):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found += _paths(part, f"{path}.")
    return found


def _is_set(spec: BaseModel, path: str) -> bool:
    current: object = spec
    for step in path.split("."):
        if not isinstance(current, BaseModel):
            return False
        names = {info.alias or name: name for name, info in type(current).model_fields.items()}
        default = type(current).model_fields[names[step]].get_default(call_default_factory=True)
        value = getattr(current, names[step])
        if value == default:
            return False
        current = value
    return True
