"""`/console/api`: what the console asks beyond the routes of OpenAI."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict

from tunesmith_hosted.console.jobs.detail import job_detail
from tunesmith_hosted.console.models import model_detail, roll_back
from tunesmith_hosted.console.planning import plan_request
from tunesmith_hosted.console.report import Reports
from tunesmith_hosted.files.rows import find_file
from tunesmith_hosted.fine_tuning.requests import CreateJob
from tunesmith_hosted.http.caller import Caller, allowed
from tunesmith_hosted.http.context import ContextOf
from tunesmith_hosted.http.errors import ApiError, model_not_found

router = APIRouter(prefix="/console/api", tags=["console"])

Files = Annotated[Caller, Depends(allowed("files"))]
FineTuning = Annotated[Caller, Depends(allowed("fine_tuning"))]
Models = Annotated[Caller, Depends(allowed("models"))]


class RollBack(BaseModel):
    """The body of `POST /console/api/models/{model}/rollback`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    revision: str | None = None


@router.get("/jobs/{fine_tuning_job_id}")
async def get_job(fine_tuning_job_id: str, caller: FineTuning, context: ContextOf, after: int = 0) -> dict[str, Any]:
    """Return a job with its curve, gates, plan and worst predictions; `after` gives only later points of the curve."""
    return await job_detail(context, caller, fine_tuning_job_id, after)


@router.get("/files/{file_id}/report")
async def get_report(
    request: Request, file_id: str, caller: Files, context: ContextOf, model: str | None = None
) -> dict[str, Any]:
    """Return the report on a file to train on; `model` is the base model that is to learn from it."""
    async with context.sessions() as session:
        file = await find_file(session, caller.project_id, file_id, context.now())
    base = None if model is None else context.settings.base(model)
    if model is not None and base is None:
        raise model_not_found(model)
    if file.purpose != "fine-tune":
        message = f"{file_id} has the purpose {file.purpose}; reports are on files with purpose fine-tune"
        raise ApiError(400, message, param="file_id", code="invalid_file_purpose")
    state = request.app.state
    if not hasattr(state, "reports"):
        state.reports = Reports()
    reports: Reports = state.reports
    return await reports.report(context, file, base)


@router.post("/plan")
async def plan(request: CreateJob, caller: FineTuning, context: ContextOf) -> dict[str, Any]:
    """Return what the job of a request would need, what it fits on and what it costs. Nothing is created."""
    return await plan_request(context, caller, request)


@router.get("/models/{model}")
async def get_model(model: str, caller: Models, context: ContextOf) -> dict[str, Any]:
    """Return a model with its revisions and its rollout."""
    return await model_detail(context, caller, model)


@router.post("/models/{model}/rollback")
async def rollback(model: str, request: RollBack, caller: Models, context: ContextOf) -> dict[str, Any]:
    """Let a model of the project serve an earlier revision."""
    async with context.sessions.begin() as session:
        revision, _ = await roll_back(session, context, caller, model, request.revision)
    context.wake_reconciler()
    return {"id": model, "revision": revision}
