"""Lists in pages, by cursor, as OpenAI's clients follow them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from tunesmith_hosted.http.errors import ApiError

Row = TypeVar("Row")
Order = Literal["asc", "desc"]


async def find_rows(
    session: AsyncSession,
    table: type[Row],
    *,
    scope: Sequence[ColumnElement[bool]],
    where: Sequence[ColumnElement[bool]] = (),
    limit: int,
    after: str | None = None,
    before: str | None = None,
    order: Order = "desc",
) -> list[Row]:
    """Return the rows of a page, and one more if there are more; what `page` takes.

    Args:
        session: A session of the database.
        table: The table; it has the columns `id` and `created_at`.
        scope: What limits the list to what the caller may see. Cursors are found in it too.
        where: What is shown of that. A row that is deleted meanwhile stays a cursor if only this leaves it out.
        limit: The most rows of a page.
        after: Id of the row that the page comes after.
        before: Id of the row that the page comes before.
        order: `desc` shows the newest first.

    Raises:
        ApiError: There is no such cursor that the caller may see.
    """
    id, created_at = _columns(table)
    place = tuple_(created_at, id)
    query = select(table).where(*scope, *where)
    # Before a cursor, the rows nearest to it are read: backwards.
    descending = (order == "desc") != (before is not None and after is None)
    for name, cursor in (("after", after), ("before", before)):
        if cursor is None:
            continue
        found = (await session.execute(select(created_at, id).where(*scope, id == cursor))).one_or_none()
        if found is None:
            raise ApiError(404, f"No such {name}: {cursor}; give the id of an object of the list", param=name)
        at = tuple_(found[0], found[1])
        query = query.where(place < at if (name == "after") == (order == "desc") else place > at)
    ordered = (created_at.desc(), id.desc()) if descending else (created_at.asc(), id.asc())
    rows = list((await session.execute(query.order_by(*ordered).limit(limit + 1))).scalars())
    if before is not None and after is None:
        rows[:limit] = reversed(rows[:limit])
    return rows


def page(rows: Sequence[Row], limit: int, wire: Callable[[Row], dict[str, Any]]) -> dict[str, Any]:
    """Return a page of at most `limit` rows.

    Args:
        rows: The rows after the cursor; one more than `limit` tells that there are more.
        limit: The most rows of a page.
        wire: Makes the object of a row.
    """
    data = [wire(row) for row in rows[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(rows) > limit,
    }


def check_limit(limit: int, most: int) -> int:
    """Return the limit of a page.

    Raises:
        ApiError: It is not between 1 and `most`.
    """
    if not 1 <= limit <= most:
        raise ApiError(400, f"limit must be between 1 and {most}, not {limit}", param="limit", code="invalid_value")
    return limit


def _columns(table: Any) -> tuple[InstrumentedAttribute[str], InstrumentedAttribute[int]]:  # noqa: ANN401 - any table
    return table.id, table.created_at
