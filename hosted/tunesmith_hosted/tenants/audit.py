"""The audit log: who did what. Rows are only added; the database refuses to change them."""

from __future__ import annotations

import time
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.ids import new_ordered_id
from tunesmith_hosted.database.tables import AuditEntry
from tunesmith_hosted.http.caller import Caller

Action = Literal[
    "project.created",
    "project.updated",
    "project.archived",
    "api_key.created",
    "api_key.updated",
    "api_key.rotated",
    "api_key.deleted",
    "file.created",
    "file.deleted",
    "upload.created",
    "upload.completed",
    "upload.cancelled",
    "fine_tuning.job.created",
    "fine_tuning.job.paused",
    "fine_tuning.job.resumed",
    "fine_tuning.job.cancelled",
    "checkpoint.permission.created",
    "checkpoint.permission.deleted",
    "model.deleted",
    "model.rolled_back",
    "session.created",
    "session.ended",
]


def add_audit(session: AsyncSession, caller: Caller, action: Action, subject: str) -> None:
    """Add to the audit log, in this transaction.

    Args:
        session: The session of the transaction.
        caller: Who does it.
        action: What is done, as `KIND.PAST_PARTICIPLE`.
        subject: Id of what it is done to; never a name or content that a user has given.
    """
    session.add(
        AuditEntry(
            id=new_ordered_id("audit_log"),
            organization_id=caller.organization_id,
            project_id=caller.project_id,
            actor=caller.actor,
            action=action,
            subject=subject,
            created_at=int(time.time()),
        )
    )
