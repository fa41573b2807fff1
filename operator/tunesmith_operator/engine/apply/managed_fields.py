"""Field ownership: what a manager has created counts as what it has applied.

The API server keeps apart what one manager owns by creating or updating and what it owns by applying, and an apply
takes away only fields of the latter. (`kubectl` and `client-go` move them over in the same way.)
"""

from __future__ import annotations

from typing import Any

Entry = dict[str, Any]


def as_applied(entries: list[Entry], manager: str) -> list[Entry] | None:
    """Return `metadata.managedFields` with a manager's updates as applies; None when there is nothing to change.

    Args:
        entries: The entries as they are.
        manager: The field manager. What it owns through subresources is left.
    """
    mine = [entry for entry in entries if entry.get("manager") == manager and not entry.get("subresource")]
    updates = [entry for entry in mine if entry.get("operation") == "Update"]
    if not updates:
        return None
    fields: dict[str, Any] = {}
    for entry in mine:
        fields = _union(fields, entry.get("fieldsV1") or {})
    merged = {**updates[0], "operation": "Apply", "fieldsV1": fields}
    return [*(entry for entry in entries if entry not in mine), merged]


def _union(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {key: _union(one.get(key, {}), other.get(key, {})) for key in {**one, **other}}
