"""Lists in pages: every row once, in order, in both directions, whatever the limit."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.engine import connect, sessions_of
from tunesmith_hosted.database.migrate import migrate
from tunesmith_hosted.database.tables import Organization
from tunesmith_hosted.http.errors import ApiError
from tunesmith_hosted.http.pages import Order, find_rows, page

SCOPE = [Organization.name != "foreign"]


async def walk(session: AsyncSession, limit: int, order: Order, forward: bool) -> list[str]:
    """Follow the cursors to the end, and return the ids in the order of the list."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        rows = await find_rows(session, Organization, scope=SCOPE, limit=limit, order=order, **cursor)
        answer = page(rows, limit, lambda row: {"id": row.id})
        ids = [item["id"] for item in answer["data"]]
        found = [*found, *ids] if forward else [*ids, *found]
        if not answer["has_more"]:
            return found
        cursor = {"after": answer["last_id"]} if forward else {"before": answer["first_id"]}


def test_pages(database_url: str) -> None:
    async def main() -> None:
        engine = connect(database_url)
        await migrate(engine)
        rows = [Organization(id=f"org-{n * 7 % 11:02}", name=str(n), created_at=n // 3) for n in range(11)]
        expected = [row.id for row in sorted(rows, key=lambda row: (row.created_at, row.id))]
        async with sessions_of(engine).begin() as session:
            session.add_all([*rows, Organization(id="org-x", name="foreign", created_at=1)])
        async with sessions_of(engine)() as session:
            for limit in (1, 2, 5, 11, 20):
                assert await walk(session, limit, "asc", True) == expected
                assert await walk(session, limit, "desc", True) == expected[::-1]
            last = {"asc": expected, "desc": expected[::-1]}
            for order, ids in last.items():
                for limit in (1, 3):
                    before = await find_rows(
                        session, Organization, scope=SCOPE, limit=limit, order=order, before=ids[5]
                    )
                    assert [row.id for row in before[:limit]] == ids[5 - limit : 5]
                    between = await find_rows(
                        session, Organization, scope=SCOPE, limit=20, order=order, after=ids[2], before=ids[5]
                    )
                    assert [row.id for row in between] == ids[3:5]
            for cursor in ("org-x", "unknown"):
                with pytest.raises(ApiError, match="No such after"):
                    await find_rows(session, Organization, scope=SCOPE, limit=1, after=cursor)
        await engine.dispose()

    asyncio.run(main())
