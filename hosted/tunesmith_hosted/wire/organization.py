"""Objects of the administration API."""

from __future__ import annotations

from typing import Any

from tunesmith_hosted.database.tables import ApiKey, AuditEntry, Project

_SHOWN = 4


def project_object(row: Project) -> dict[str, Any]:
    """Return a project."""
    return {
        "id": row.id,
        "object": "organization.project",
        "name": row.name,
        "created_at": row.created_at,
        "archived_at": row.archived_at,
        "status": "active" if row.archived_at is None else "archived",
    }


def api_key_object(row: ApiKey) -> dict[str, Any]:
    """Return a key without its secret. Its owner is a service account of the same id: keys here belong to programs."""
    owner = {
        "id": row.id,
        "created_at": row.created_at,
        "name": row.name,
        "role": "owner" if "admin" in row.scopes else "member",
    }
    return {
        "id": row.id,
        "object": "organization.project.api_key",
        "name": row.name,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "last_used_at": row.last_used_at,
        "redacted_value": f"sk-ts-{row.lookup[:_SHOWN]}***",
        "owner": {"type": "service_account", "service_account": owner},
        "owner_project_access": "active",
    }


def audit_log_object(row: AuditEntry) -> dict[str, Any]:
    """Return an entry of the audit log."""
    return {
        "id": row.id,
        "type": row.action,
        "effective_at": row.created_at,
        "actor": {"type": "api_key", "api_key": {"type": "service_account", "id": row.actor}},
        "project": {"id": row.project_id},
        row.action: {"id": row.subject},
    }
