"""Routes of usage: `/v1/organization/usage/…` and `/v1/organization/costs`, in buckets of a day."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from sqlalchemy import select

from tunesmith_hosted.config.settings import Settings
from tunesmith_hosted.database.tables import Project, Usage
from tunesmith_hosted.http.caller import Caller, caller_of
from tunesmith_hosted.http.context import Context, ContextOf
from tunesmith_hosted.http.errors import ApiError
from tunesmith_hosted.tenants.usage import SECONDS_A_DAY
from tunesmith_hosted.wire.usage import completions_result, costs_results, fine_tuning_result

router = APIRouter(prefix="/v1/organization", tags=["organization"])

InContext = ContextOf
Group = Literal["project_id", "model", "line_item"]
_FURTHEST = 4_000_000_000
Seconds = Annotated[int, Query(ge=0, le=_FURTHEST)]


def may_see_usage(caller: Annotated[Caller, Depends(caller_of)]) -> Caller:
    """Return the caller, whose key must have the scope `usage` (of its project) or `admin` (of the organisation)."""
    if not caller.scopes & {"usage", "admin"}:
        raise ApiError(403, "This key lacks the scope usage; create a key that has it", code="insufficient_scope")
    return caller


@dataclass(frozen=True)
class Asked:
    """What is asked for of the usage.

    Attributes:
        start: The first day.
        end: The day after the last.
        limit: The most days of an answer.
        group_by: What results are told apart by.
        projects: Only these projects.
        models: Only these models.
    """

    start: int
    end: int
    limit: int
    group_by: frozenset[str]
    projects: list[str] | None
    models: list[str] | None


def asked(
    context: InContext,
    start_time: Seconds,
    end_time: Seconds | None = None,
    bucket_width: Literal["1d"] = "1d",
    limit: Annotated[int, Query(ge=1, le=180)] = 7,
    page: str | None = None,
    group_by: Annotated[list[Group] | None, Query(alias="group_by[]")] = None,
    project_ids: Annotated[list[str] | None, Query(alias="project_ids[]")] = None,
    models: Annotated[list[str] | None, Query(alias="models[]")] = None,
) -> Asked:
    """Return what the parameters ask for."""
    day = start_time // SECONDS_A_DAY
    if page is not None:
        if not (page.isascii() and page.isdigit() and len(page) < 10):
            raise ApiError(404, f"No such page: {page}; give next_page of an answer", param="page")
        day = int(page)
    last = context.now() if end_time is None else end_time
    end = max(day, -(-int(last) // SECONDS_A_DAY))
    return Asked(day, end, limit, frozenset(group_by or ()), project_ids, models)


MaySee = Annotated[Caller, Depends(may_see_usage)]
AskedFor = Annotated[Asked, Depends(asked)]


@router.get("/usage/completions")
async def completions(caller: MaySee, context: InContext, what: AskedFor) -> dict[str, Any]:
    """Return the tokens of questions and answers."""
    return await _answer(caller, context, what, lambda rows, keys: [completions_result(rows, keys)])


@router.get("/usage/fine_tuning")
async def fine_tuning(caller: MaySee, context: InContext, what: AskedFor) -> dict[str, Any]:
    """Return the tokens and GPU seconds of training. OpenAI's API has no such thing."""
    return await _answer(caller, context, what, lambda rows, keys: [fine_tuning_result(rows, keys)])


@router.get("/costs")
async def costs(caller: MaySee, context: InContext, what: AskedFor) -> dict[str, Any]:
    """Return what it costs by the prices of the base models."""
    lines = "line_item" in what.group_by

    def results(rows: list[Usage], keys: dict[str, str | None]) -> list[dict[str, Any]]:
        return costs_results([(row, _price(context.settings, row.model)) for row in rows], keys, lines)

    return await _answer(caller, context, what, results)


Results = Callable[[list[Usage], dict[str, str | None]], list[dict[str, Any]]]


async def _answer(caller: Caller, context: Context, what: Asked, results: Results) -> dict[str, Any]:
    end = min(what.end, what.start + what.limit)
    query = (
        select(Usage)
        .join(Project, Usage.project_id == Project.id)
        .where(Project.organization_id == caller.organization_id, Usage.day >= what.start, Usage.day < end)
        .order_by(Usage.day, Usage.project_id, Usage.model)
    )
    if "admin" not in caller.scopes:
        query = query.where(Usage.project_id == caller.project_id)
    if what.projects:
        query = query.where(Usage.project_id.in_(what.projects))
    if what.models:
        query = query.where(Usage.model.in_(what.models))
    async with context.sessions() as session:
        rows = list((await session.execute(query)).scalars())
    buckets = []
    for day in range(what.start, end):
        found = _grouped((row for row in rows if row.day == day), what.group_by)
        buckets.append(
            {
                "object": "bucket",
                "start_time": day * SECONDS_A_DAY,
                "end_time": (day + 1) * SECONDS_A_DAY,
                "results": [result for keys, group in found for result in results(group, dict(keys))],
            }
        )
    more = end < what.end
    return {"object": "page", "data": buckets, "has_more": more, "next_page": str(end) if more else None}


def _grouped(
    rows: Iterable[Usage], group_by: frozenset[str]
) -> list[tuple[tuple[tuple[str, str | None], ...], list[Usage]]]:
    groups: dict[tuple[tuple[str, str | None], ...], list[Usage]] = {}
    for row in rows:
        keys = (
            ("project_id", row.project_id if "project_id" in group_by else None),
            ("model", row.model if "model" in group_by else None),
        )
        groups.setdefault(keys, []).append(row)
    return list(groups.items())


def _price(settings: Settings, model: str) -> dict[str, float]:
    """Return the price of a model: a tuned one (`ft:BASE:…`) costs what its base does."""
    base = settings.base(model.split(":")[1] if model.startswith("ft:") else model)
    return {} if base is None else {str(kind): price for kind, price in base.price.items()}
