"""SQLite's lock is free once those who held it are gone, however they went."""

import asyncio
import gc
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tunesmith_hosted.database.engine import Sessions, connect, sessions_of

RUNS = 60


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """A large process may not look for garbage for minutes."""
    gc.disable()
    yield
    gc.enable()


async def write(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        (await session.execute(text("SELECT count(*) FROM t"))).all()
        await session.execute(text("INSERT INTO t VALUES (1)"))


@pytest.mark.usefixtures("no_garbage_collection")
def test_a_request_that_is_cancelled_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite"

    def is_free() -> bool:
        other = sqlite3.connect(path, timeout=0.2, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        finally:
            other.close()
        return True

    async def main() -> int | None:
        engine = connect(f"sqlite:///{path}")
        sessions = sessions_of(engine)
        async with sessions.begin() as session:
            await session.execute(text("CREATE TABLE t (a INTEGER)"))
        errors: list[BaseException | None] = []
        for run in range(RUNS):
            tasks = [asyncio.create_task(write(sessions)) for _ in range(3)]
            for task in tasks:
                await asyncio.sleep(run * 0.0001)
                task.cancel()
            # What is logged or raised again holds the frames, and with them the cursors.
            errors += await asyncio.gather(*tasks, return_exceptions=True)
            # Longer than a connection waits for the lock that another has.
            deadline = asyncio.get_running_loop().time() + 300
            while not (free := await asyncio.to_thread(is_free)) and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.05)
            if not free:
                return run
        assert any(isinstance(error, asyncio.CancelledError) for error in errors)
        await engine.dispose()
        return None

    assert asyncio.run(main()) is None, "the lock was held after the requests of a run"
