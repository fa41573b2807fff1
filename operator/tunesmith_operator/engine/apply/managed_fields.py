"""Field ownership: turns the fields that a manager owns by Update into fields that it owns by Apply.

The API server separates the fields that a manager owns by creating or updating from those that it owns by applying,
and an apply removes only the latter. (`kubectl` and `client-go` migrate them in the same way.)
"""

from __future__ import annotations

from typing import Any

Entry = dict[str, Any]


def as_applied(entries: list[Entry], manager: str) -> list[Entry] | None:
    """Return `metadata.managedFields` with a manager's Update entries as one Apply entry; None if it has none.

    Args:
        entries: The observed entries.
        manager: The field manager. Its entries for subresources stay.
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
