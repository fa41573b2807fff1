"""What a manifest says that has a meaning in a cluster only: told, so that nobody takes it for done."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

from tunesmith_cli.terminal.console import title


def tell_cluster_only(kind: str, name: str, spec: BaseModel, paths: Iterable[str]) -> None:
    """Print one line about the fields that are set and change nothing on this machine; nothing when none is.

    Args:
        kind: Kind of the object.
        name: Its name.
        spec: Its spec.
        paths: The fields that concern clusters only, in the spec's own words: `resources`, `model.secretRef`.
    """
    found = [path for path in paths if _is_set(spec, path)]
    if found:
        title(kind, name, f"[yellow]{', '.join(found)}[/yellow]: for clusters only, without effect here")


def _is_set(spec: BaseModel, path: str) -> bool:
    """Return whether the field at a path was written, and is not as if it had not been."""
    current: object = spec
    for step in path.split("."):
        if not isinstance(current, BaseModel):
            return False
        names = {info.alias or name: name for name, info in type(current).model_fields.items()}
        name = names[step]
        default = type(current).model_fields[name].get_default(call_default_factory=True)
        value = getattr(current, name)
        if value == default:
            return False
        current = value
    return True
