"""Warns about fields that have no effect without a cluster."""

from __future__ import annotations

from pydantic import BaseModel

from tunesmith_api.objects.cluster_only import set_cluster_only_fields
from tunesmith_cli.terminal.console import title


def tell_cluster_only(kind: str, name: str, spec: BaseModel) -> None:
    """Print one line that names the fields that are set and have no effect here; nothing if there are none.

    Args:
        kind: Kind of the object.
        name: Its name.
        spec: Its spec.
    """
    if found := set_cluster_only_fields(spec):
        title(kind, name, f"[yellow]{', '.join(found)}[/yellow]: for clusters only, without effect here")
