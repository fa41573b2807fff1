"""The routes of the console over work folders: those of the service that work without a database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, cast

import httpx
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from tunesmith_hosted.console.work_folder import jobs, models
from tunesmith_hosted.http.errors import MOST_BODY_BYTES, ApiError, body_too_large, model_not_found, not_found

router = APIRouter()

MISSING = {
    "files": "data stays where the manifest says; `tunesmith data FILE` reports on them",
    "keys": "there are none: only this machine can ask",
    "usage": "nothing is counted",
    "jobs": "jobs are started, stopped and resumed by `tunesmith run`",
}
"""What there is not in this mode, and what to do instead."""

_ANSWER_SECONDS = 600.0


def root_of(request: Request) -> Path:
    """Return the folder of all work."""
    return cast(Path, request.app.state.root)


Root = Annotated[Path, Depends(root_of)]


@router.get("/console/api/session")
async def get_session(root: Root) -> dict[str, Any]:
    """Return what there is in this mode."""
    return {
        "person": None,
        "project": {"id": "local", "name": root.name},
        "organization": {"id": "local", "name": "this machine"},
        "scopes": ["fine_tuning", "inference", "models"],
        "projects": [],
        "providers": [],
        "mode": "workFolder",
        "missing": MISSING,
    }


@router.get("/v1/fine_tuning/jobs")
async def list_jobs(root: Root, limit: int = 20, after: str | None = None) -> dict[str, Any]:
    """List the jobs, the newest first."""
    found = await asyncio.to_thread(jobs.find_jobs, root)
    ids = [job.id for job in found]
    if after is not None and after not in ids:
        raise not_found("after", after, param="after")
    start = 0 if after is None else ids.index(after) + 1
    page = found[start : start + max(1, limit)]
    data = [jobs.job_object(job, models.model_of(root, job)) for job in page]
    return _list(data, has_more=start + len(page) < len(found))


@router.get("/v1/fine_tuning/jobs/{id}")
async def get_job(id: str, root: Root) -> dict[str, Any]:
    """Return a job."""
    job = _job(root, id)
    return jobs.job_object(job, models.model_of(root, job))


@router.get("/v1/fine_tuning/jobs/{id}/events")
async def list_events(id: str, root: Root, limit: int = 20, after: str | None = None) -> dict[str, Any]:
    """List what has happened to a job, the newest first."""
    found = jobs.events(_job(root, id))
    ids = [event["id"] for event in found]
    start = ids.index(after) + 1 if after in ids else 0
    page = found[start : start + max(1, limit)]
    return _list(page, has_more=start + len(page) < len(found))


@router.get("/v1/fine_tuning/jobs/{id}/checkpoints")
async def list_checkpoints(id: str, root: Root) -> dict[str, Any]:
    """List no checkpoints: they are for resuming, and are not served."""
    _job(root, id)
    return _list([], has_more=False)


@router.get("/console/api/jobs/{id}")
async def job_detail(id: str, root: Root, after: int = 0) -> dict[str, Any]:
    """Return a job with its curve, gates, plan and worst predictions."""
    job = _job(root, id)
    return await asyncio.to_thread(jobs.job_detail, job, models.model_of(root, job), after)


@router.get("/v1/models")
async def list_models(root: Root) -> dict[str, Any]:
    """List the models."""
    return _list([models.model_object(model) for model in models.find_models(root)], has_more=False)


@router.get("/v1/models/{model}")
async def get_model(model: str, root: Root) -> dict[str, Any]:
    """Return a model."""
    return models.model_object(_model(root, model))


@router.get("/console/api/models/{model}")
async def model_detail(model: str, root: Root) -> dict[str, Any]:
    """Return a model with its revisions."""
    return models.model_detail(_model(root, model), jobs.find_jobs(root))


@router.post("/v1/chat/completions")
@router.post("/v1/completions")
@router.post("/v1/responses")
async def ask(request: Request, root: Root) -> Response:
    """Send a request to the server of the model that it names."""
    body = await _body(request)
    model = _model(root, str(body.get("model", "")))
    if model.endpoint is None:
        message = f"{model.id} is not served now; serve it with `tunesmith run`, and ask again"
        raise ApiError(409, message, param="model", code="model_not_served")
    client = httpx.AsyncClient(timeout=_ANSWER_SECONDS)
    url = model.endpoint + request.url.path.removeprefix("/v1")
    try:
        sent = client.build_request("POST", url, json={**body, "model": model.served})
        answer = await client.send(sent, stream=True)
    except httpx.HTTPError:
        await client.aclose()
        message = f"The server of {model.id} does not answer; serve it with `tunesmith run`, and ask again"
        raise ApiError(409, message, param="model", code="model_not_served") from None
    return StreamingResponse(
        _answer(client, answer), answer.status_code, media_type=answer.headers.get("content-type", "application/json")
    )


async def _answer(client: httpx.AsyncClient, answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for data in answer.aiter_bytes():
            yield data
    finally:
        await answer.aclose()
        await client.aclose()


async def _body(request: Request) -> dict[str, Any]:
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > MOST_BODY_BYTES:
            raise body_too_large()
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ApiError(400, "The body must be a JSON object with model and messages", code="invalid_json")
    return found


def _job(root: Path, id: str) -> jobs.FolderJob:
    found = jobs.find_job(root, id)
    if found is None:
        raise not_found("fine-tuning job", id, param="fine_tuning_job_id")
    return found


def _model(root: Path, id: str) -> models.FolderModel:
    found = models.find_model(root, id)
    if found is None:
        raise model_not_found(id)
    return found


def _list(data: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more}
