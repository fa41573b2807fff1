"""Tables of what projects use and do."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from tunesmith_hosted.database.base import Id, Name, Table


class Usage(Table):
    """What a project has used of a model on a day (days since 1 January 1970, UTC)."""

    __tablename__ = "usage"

    project_id: Mapped[str] = mapped_column(Id, ForeignKey("projects.id"), primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(Name, primary_key=True)
    requests: Mapped[int] = mapped_column(default=0)
    input_tokens: Mapped[int] = mapped_column(default=0)
    cached_tokens: Mapped[int] = mapped_column(default=0)
    output_tokens: Mapped[int] = mapped_column(default=0)
    trained_tokens: Mapped[int] = mapped_column(default=0)
    gpu_seconds: Mapped[float] = mapped_column(default=0.0)


class RateWindow(Table):
    """What a project has used in the last minute: by `requests` and `tokens`, in slots of seconds."""

    __tablename__ = "rate_windows"

    project_id: Mapped[str] = mapped_column(Id, ForeignKey("projects.id"), primary_key=True)
    slots: Mapped[dict[str, Any]] = mapped_column(default=dict)


class AuditEntry(Table):
    """Who did what. Rows are only added."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "organization_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    organization_id: Mapped[str] = mapped_column(Id)
    project_id: Mapped[str | None] = mapped_column(Id)
    actor: Mapped[str] = mapped_column(Name)
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(Name)
    created_at: Mapped[int]


class IdempotencyKey(Table):
    """The answer to a request with an `Idempotency-Key`, for a day."""

    __tablename__ = "idempotency_keys"

    project_id: Mapped[str] = mapped_column(Id, ForeignKey("projects.id"), primary_key=True)
    key: Mapped[str] = mapped_column(Name, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None]
    body: Mapped[dict[str, Any] | None]
    created_at: Mapped[int] = mapped_column(index=True)
