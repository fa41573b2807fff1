"""A model as the console shows it: its revisions, its rollout, and going back to an earlier revision."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_backend.interface.errors import BackendError
from tunesmith_backend.interface.protocol import ObjectRef
from tunesmith_hosted.database.outbox import ask_for
from tunesmith_hosted.database.tables import ServedBase
from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.http.errors import ApiError, model_not_found
from tunesmith_hosted.models.finding import Found, find_model, model_row
from tunesmith_hosted.tenants.audit import add_audit

Object = dict[str, Any]


async def model_detail(context: Context, caller: Caller, name: str) -> Object:
    """Return what the console shows of a model.

    Raises:
        ApiError: There is no such model that the caller may use.
    """
    async with context.sessions() as session:
        found = await find_model(session, context.settings, caller, name)
        if found is None:
            raise model_not_found(name)
        base = None if found.base is None else await session.get(ServedBase, found.base.name)
    if found.base is not None:
        served = base.wanted if base is not None else "asleep"
        endpoint = base.endpoint if base is not None else None
        about: Object = {"kind": "base", "base": found.base.name, "aliases": list(found.base.aliases)}
        about |= {"method": found.base.method, "price": found.base.price, "contextLength": found.base.context_length}
        return _view(found, about, served, {}, is_served=endpoint is not None, message=base.message if base else None)
    row = found.model
    if row is None:
        return _view(found, {"kind": "checkpoint"}, "asleep", {})
    about = {"kind": "tuned" if row.step is None else "checkpoint", "base": row.base}
    status: Object = {}
    if found.own:
        # Another project that shares it learns nothing of where it runs.
        about |= {"jobId": row.job_id, "lastUsedAt": row.last_used_at}
        status = await _status(context, ObjectRef("InferenceWorkspace", row.workspace, caller.namespace))
    view = _view(found, about, row.wanted, status, is_served=row.endpoint is not None, message=row.message)
    for revision in view["revisions"]:
        revision["isCurrent"] = revision["artifact"] == row.artifact
    return view


async def roll_back(
    session: AsyncSession, context: Context, caller: Caller, name: str, revision: str | None
) -> tuple[str, str]:
    """Let a model serve an earlier revision, in this transaction, and return the revision and its artifact.

    Args:
        session: The session of the transaction.
        context: The service.
        caller: Who asks.
        name: The model.
        revision: The revision; the one before by default.

    Raises:
        ApiError: There is no such model of the project, or no such revision.
    """
    found = await find_model(session, context.settings, caller, name)
    if found is None:
        raise model_not_found(name)
    if not found.own:
        message = f"{name} is not the project's own; only its own fine-tuned models can be rolled back"
        raise ApiError(403, message, param="model", code="model_not_owned")
    row = await model_row(session, found)
    status = await _status(context, ObjectRef("InferenceWorkspace", row.workspace, caller.namespace))
    earlier = [item for item in status.get("history") or [] if item["artifact"] != row.artifact]
    if revision is not None:
        earlier = [item for item in earlier if item["revision"] == revision]
    if not earlier:
        what = f"no other revision {revision}" if revision is not None else "no earlier revision"
        message = f"{name} has {what}; GET /console/api/models/{{name}} lists its revisions"
        raise ApiError(400, message, param="revision", code="revision_not_found")
    row.artifact = str(earlier[-1]["artifact"])
    await ask_for(session, "model", row.id)
    add_audit(session, caller, "model.rolled_back", row.id)
    return str(earlier[-1]["revision"]), row.artifact


async def _status(context: Context, ref: ObjectRef) -> Object:
    try:
        return dict((await context.backend.get(ref)).get("status") or {})
    except BackendError:  # It has never been asked, or the cluster does not answer.
        return {}


def _view(
    found: Found, about: Object, wanted: str, status: Object, *, is_served: bool = False, message: str | None = None
) -> Object:
    ready: Object = next((item for item in status.get("conditions") or [] if item.get("type") == "Ready"), {})
    return {
        "id": found.name,
        "created": found.created,
        "own": found.own,
        **about,
        "wanted": wanted,
        "isServed": is_served,
        "endpoint": status.get("endpoint"),
        "revisions": list(reversed(status.get("history") or [])),
        "rollout": {
            "phase": status.get("phase"),
            "revision": status.get("revision"),
            "previousRevision": status.get("previousRevision"),
            "reason": ready.get("reason"),
            "message": message or ready.get("message"),
        },
        "replicas": {"now": status.get("replicas") or 0, "ready": status.get("readyReplicas") or 0},
    }
