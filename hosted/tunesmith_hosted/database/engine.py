"""Connections to the database: PostgreSQL, or SQLite for one machine."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

Sessions = async_sessionmaker[AsyncSession]

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg"}


class _Connection(sqlite3.Connection):
    """A connection whose transaction ends with it.

    SQLite keeps a closed connection, and its lock on the file, until the last cursor is gone. Tracebacks of a cancelled
    request hold cursors until garbage is collected.
    """

    def close(self) -> None:
        """Roll back, then close."""
        with suppress(sqlite3.Error):
            self.rollback()
        super().close()


def connect(url: str) -> AsyncEngine:
    """Return an engine for a URL without a driver's name; a folder of SQLite's file is made.

    Raises:
        ValueError: The URL is of another database.
    """
    parsed = make_url(url)
    name = parsed.get_backend_name()
    if name not in _DRIVERS:
        raise ValueError(
            f"database {name} is not supported; write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
        )
    # An error of a statement would carry its values into logs.
    options: dict[str, Any] = {"hide_parameters": True, "pool_pre_ping": name == "postgresql"}
    if name == "sqlite":
        options["connect_args"] = {"factory": _Connection}
    engine = create_async_engine(parsed.set(drivername=_DRIVERS[name]), **options)
    if name == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        event.listen(engine.sync_engine, "connect", _configure_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_immediate)
    return engine


def sessions_of(engine: AsyncEngine) -> Sessions:
    """Return what opens sessions. Objects stay readable after a commit."""
    return async_sessionmaker(engine, expire_on_commit=False)


def _configure_sqlite(connection: DBAPIConnection, record: object) -> None:
    """Let readers go on while one writes, wait for other writers, and leave transactions to SQLAlchemy."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    """Take the write lock at the start: a transaction that reads first and then writes could not get it later."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
