"""Migrations: of an empty database they make the tables of the code, on SQLite and on PostgreSQL."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from tunesmith_hosted.database.engine import connect
from tunesmith_hosted.database.migrate import NotMigratedError, check_migrated, differences, migrate, newest
from tunesmith_hosted.database.tables import Table

ADD = "INSERT INTO audit (id, organization_id, actor, action, subject, created_at) VALUES ('a', 'o', 'k', 'x', 's', 1)"


def run(url: str, steps) -> None:
    async def main() -> None:
        engine = connect(url)
        try:
            await steps(engine)
        finally:
            await engine.dispose()

    asyncio.run(main())


def test_steps_make_the_tables_of_the_code(database_url: str) -> None:
    async def steps(engine: AsyncEngine) -> None:
        with pytest.raises(NotMigratedError, match="not there.*tunesmith hosted migrate"):
            await check_migrated(engine)
        assert await migrate(engine) == newest()
        await check_migrated(engine)
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == [], 'run `make migration NAME="What it changes"`'

    run(database_url, steps)


def test_differences_are_found(database_url: str) -> None:
    async def steps(engine: AsyncEngine) -> None:
        await migrate(engine)
        async with engine.begin() as connection:
            await connection.execute(text("ALTER TABLE models DROP COLUMN message"))
        async with engine.connect() as connection:
            assert len(await connection.run_sync(differences)) == 1

    run(database_url, steps)


def test_replicas_migrate_at_the_same_time(database_url: str) -> None:
    async def steps(engine: AsyncEngine) -> None:
        engines = [connect(database_url) for _ in range(4)]
        assert await asyncio.gather(*(migrate(each) for each in engines)) == [newest()] * 4
        for each in engines:
            await each.dispose()

    run(database_url, steps)


def test_a_step_that_fails_leaves_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are made in one transaction: a crash in the middle leaves an empty database, not half of one."""

    async def steps(engine: AsyncEngine) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("alembic.operations.Operations.execute", _fail)
            with pytest.raises(RuntimeError, match="in the middle"):
                await migrate(engine)
        with pytest.raises(NotMigratedError, match="not there"):
            await check_migrated(engine)
        async with engine.begin() as connection:
            await connection.run_sync(Table.metadata.create_all, checkfirst=False)

    run(database_url, steps)


def test_rows_of_the_audit_log_are_only_added(database_url: str) -> None:
    async def steps(engine: AsyncEngine) -> None:
        await migrate(engine)
        async with engine.begin() as connection:
            await connection.execute(text(ADD))
        for statement in ("UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"):
            with pytest.raises(DBAPIError, match="only added"):
                async with engine.begin() as connection:
                    await connection.execute(text(statement))
        async with engine.connect() as connection:
            assert (await connection.execute(text("SELECT actor FROM audit"))).all() == [("k",)]

    run(database_url, steps)


def _fail(*arguments: object, **options: object) -> None:
    raise RuntimeError("in the middle")
