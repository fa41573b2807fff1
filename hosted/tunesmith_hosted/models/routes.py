"""`/v1/models`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from tunesmith_hosted.database.outbox import ask_for
from tunesmith_hosted.http.caller import Caller, allowed
from tunesmith_hosted.http.context import ContextOf
from tunesmith_hosted.http.errors import ApiError, model_not_found
from tunesmith_hosted.models.finding import Found, find_model, list_models, model_row
from tunesmith_hosted.tenants.audit import add_audit
from tunesmith_hosted.wire.models import model_object

router = APIRouter(prefix="/v1")

CallerOf = Annotated[Caller, Depends(allowed("models"))]


@router.get("/models")
async def list_all(
    caller: CallerOf,
    context: ContextOf,
) -> dict[str, Any]:
    """List the models that can be asked or fine-tuned."""
    async with context.sessions() as session:
        found = await list_models(session, context.settings, caller)
    return {"object": "list", "data": [_wire(model, caller) for model in found]}


@router.get("/models/{model}")
async def retrieve(
    model: str,
    caller: CallerOf,
    context: ContextOf,
) -> dict[str, Any]:
    """Return a model. A base answers to its aliases too."""
    async with context.sessions() as session:
        found = await find_model(session, context.settings, caller, model)
    if found is None:
        raise model_not_found(model)
    return {**_wire(found, caller), "id": model}


@router.delete("/models/{model}")
async def remove(
    model: str,
    caller: CallerOf,
    context: ContextOf,
) -> dict[str, Any]:
    """Delete a fine-tuned model of the project; its servers are stopped."""
    async with context.sessions.begin() as session:
        found = await find_model(session, context.settings, caller, model)
        if found is None:
            raise model_not_found(model)
        if not found.own:
            whose = "a base model" if found.base is not None else "a model that another project shares"
            message = f"{model} is {whose}; only the project's own fine-tuned models can be deleted"
            raise ApiError(403, message, param="model", code="model_not_owned")
        row = await model_row(session, found)
        row.wanted = "deleted"
        row.deleted_at = int(context.now())
        await ask_for(session, "model", model)
        add_audit(session, caller, "model.deleted", model)
    context.wake_reconciler()
    return {"id": model, "object": "model", "deleted": True}


def _wire(found: Found, caller: Caller) -> dict[str, Any]:
    return model_object(found.name, found.created, "system" if found.base is not None else caller.organization)
