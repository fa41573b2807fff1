"""The tables. Times are Unix seconds, as in the API; deleted rows stay, marked, until nothing refers to them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tunesmith_hosted.database.accounts import AuditEntry as AuditEntry
from tunesmith_hosted.database.accounts import IdempotencyKey as IdempotencyKey
from tunesmith_hosted.database.accounts import RateWindow as RateWindow
from tunesmith_hosted.database.accounts import Usage as Usage
from tunesmith_hosted.database.base import Id, Name
from tunesmith_hosted.database.base import Table as Table
from tunesmith_hosted.database.sessions import ConsoleSession as ConsoleSession
from tunesmith_hosted.database.sessions import SignInAttempt as SignInAttempt


class Organization(Table):
    """An organisation, which owns projects."""

    __tablename__ = "organizations"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    created_at: Mapped[int]


class Project(Table):
    """A project: the tenant. Everything below belongs to one, and nobody sees another's."""

    __tablename__ = "projects"
    __table_args__ = (UniqueConstraint("organization_id", "name"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    organization_id: Mapped[str] = mapped_column(Id, ForeignKey("organizations.id"))
    name: Mapped[str] = mapped_column(Name)
    namespace: Mapped[str] = mapped_column(String(63), unique=True)
    quotas: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[int]
    archived_at: Mapped[int | None]


class ApiKey(Table):
    """A key. Its secret is shown once; only a salted hash is stored."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(Id, ForeignKey("projects.id"), index=True)
    name: Mapped[str] = mapped_column(Name)
    lookup: Mapped[str] = mapped_column(String(32), unique=True)
    salt: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(128))
    scopes: Mapped[list[str]] = mapped_column(default=list)
    created_at: Mapped[int]
    expires_at: Mapped[int | None]
    last_used_at: Mapped[int | None]
    revoked_at: Mapped[int | None]


class File(Table):
    """A file; its content is in the object store under `path`."""

    __tablename__ = "files"
    __table_args__ = (Index(None, "project_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(Id, ForeignKey("projects.id"))
    filename: Mapped[str] = mapped_column(Name)
    purpose: Mapped[str] = mapped_column(String(32))
    bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(String(512))
    status: Mapped[str] = mapped_column(String(16))
    status_details: Mapped[str | None]
    created_at: Mapped[int]
    expires_at: Mapped[int | None] = mapped_column(index=True)
    deleted_at: Mapped[int | None]


class Upload(Table):
    """A file that arrives in parts."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(Id, ForeignKey("projects.id"), index=True)
    filename: Mapped[str] = mapped_column(Name)
    purpose: Mapped[str] = mapped_column(String(32))
    mime_type: Mapped[str] = mapped_column(Name)
    bytes: Mapped[int]
    status: Mapped[str] = mapped_column(String(16))
    file_id: Mapped[str | None] = mapped_column(Id, ForeignKey("files.id"))
    file_expires_after: Mapped[int | None]
    created_at: Mapped[int]
    expires_at: Mapped[int] = mapped_column(index=True)


class UploadPart(Table):
    """A part of an upload, in the object store under `path`."""

    __tablename__ = "upload_parts"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    upload_id: Mapped[str] = mapped_column(Id, ForeignKey("uploads.id"), index=True)
    bytes: Mapped[int]
    md5: Mapped[str] = mapped_column(String(32))
    path: Mapped[str] = mapped_column(String(512))
    created_at: Mapped[int]


class Job(Table):
    """A fine-tuning job.

    Attributes:
        request: The request's body, as it was taken.
        wanted: What the user wants of it: `run`, `pause` or `cancel`.
        status: What the API shows.
        place_at: When it got a place to run; None while it waits for one, is paused, or has ended.
        object_name: Name of its FineTuneJob, derived from the id.
        start: URI of the weights that it starts from; None for its base model's.
        manifest: The FineTuneJob as it was asked for; empty until the files are valid.
        observed: The newest status of the FineTuneJob.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index(None, "project_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(Id, ForeignKey("projects.id"))
    base: Mapped[str] = mapped_column(Name)
    model: Mapped[str] = mapped_column(Name)
    start: Mapped[str | None] = mapped_column(String(1024))
    suffix: Mapped[str | None] = mapped_column(String(64))
    seed: Mapped[int]
    method: Mapped[dict[str, Any]]
    request: Mapped[dict[str, Any]]
    training_file: Mapped[str] = mapped_column(Id, ForeignKey("files.id"))
    validation_file: Mapped[str | None] = mapped_column(Id, ForeignKey("files.id"))
    user_metadata: Mapped[dict[str, Any]] = mapped_column(default=dict)
    wanted: Mapped[str] = mapped_column(String(16), default="run")
    status: Mapped[str] = mapped_column(String(24), index=True)
    place_at: Mapped[int | None]
    object_name: Mapped[str] = mapped_column(String(63))
    manifest: Mapped[dict[str, Any]] = mapped_column(default=dict)
    observed: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[dict[str, Any]] = mapped_column(default=dict)
    trained_tokens: Mapped[int | None]
    estimated_finish: Mapped[int | None]
    fine_tuned_model: Mapped[str | None] = mapped_column(Name)
    result_files: Mapped[list[str]] = mapped_column(default=list)
    created_at: Mapped[int]
    finished_at: Mapped[int | None]


class JobEvent(Table):
    """An event of a job. `number` orders the events of a job."""

    __tablename__ = "job_events"
    __table_args__ = (UniqueConstraint("job_id", "number"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id"))
    number: Mapped[int]
    level: Mapped[str] = mapped_column(String(8))
    type: Mapped[str] = mapped_column(String(16))
    message: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[int]


class Checkpoint(Table):
    """A checkpoint that is kept and can be asked.

    Attributes:
        artifact: URI of what is served; None for that of its job's model.
    """

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("job_id", "step"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id"))
    step: Mapped[int]
    model: Mapped[str] = mapped_column(Name, unique=True)
    artifact: Mapped[str | None] = mapped_column(String(1024))
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[int]


class CheckpointPermission(Table):
    """Another project of the organisation may use a checkpoint."""

    __tablename__ = "checkpoint_permissions"
    __table_args__ = (UniqueConstraint("checkpoint_id", "project_id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    checkpoint_id: Mapped[str] = mapped_column(Id, ForeignKey("checkpoints.id"))
    project_id: Mapped[str] = mapped_column(Id, ForeignKey("projects.id"))
    created_at: Mapped[int]


class TunedModel(Table):
    """A fine-tuned model, or a checkpoint that is served as a model.

    Attributes:
        id: The public name: `ft:BASE:ORG:SUFFIX:ID`, with `:ckpt-step-N` for a checkpoint.
        artifact: URI of what is served.
        workspace: Name of its InferenceWorkspace, derived from the id.
        wanted: `awake`, `asleep` or `deleted`.
        endpoint: Base URL of its server while it serves.
        last_used_at: Of the newest request, to the minute.
    """

    __tablename__ = "models"
    __table_args__ = (Index(None, "project_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(Name, primary_key=True)
    project_id: Mapped[str] = mapped_column(Id, ForeignKey("projects.id"))
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id"))
    base: Mapped[str] = mapped_column(Name)
    step: Mapped[int | None]
    artifact: Mapped[str] = mapped_column(String(1024))
    workspace: Mapped[str] = mapped_column(String(63))
    wanted: Mapped[str] = mapped_column(String(16), default="asleep")
    endpoint: Mapped[str | None] = mapped_column(String(512))
    message: Mapped[str | None]
    created_at: Mapped[int]
    last_used_at: Mapped[int | None]
    deleted_at: Mapped[int | None]


class ServedBase(Table):
    """A base model that is served itself, once for all projects; its row is made by the first request.

    Attributes:
        name: Its public name, as in the settings.
        workspace: Name of its InferenceWorkspace.
        wanted: `awake` or `asleep`.
        endpoint: Base URL of its server while it serves.
        last_used_at: Of the newest request, to the minute.
    """

    __tablename__ = "served_bases"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    workspace: Mapped[str] = mapped_column(String(63))
    wanted: Mapped[str] = mapped_column(String(16), default="asleep")
    endpoint: Mapped[str | None] = mapped_column(String(512))
    message: Mapped[str | None]
    last_used_at: Mapped[int | None]


class Outbox(Table):
    """What is to be done outside the database, written in the transaction that asks for it.

    Attributes:
        kind: `job`, `model`, `file` or `project`: what `subject` is the id of.
        due_at: When it is tried (again).
        claimed_until: Until when a replica works on it; another takes it over after that.
    """

    __tablename__ = "outbox"
    __table_args__ = (UniqueConstraint("kind", "subject"),)

    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(Name)
    due_at: Mapped[float] = mapped_column(index=True)
    claimed_until: Mapped[float] = mapped_column(default=0.0)
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None]
