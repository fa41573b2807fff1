"""Brings the tables of a database to what this version needs."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from tunesmith_hosted.database.tables import Table

STEPS = Path(__file__).parent / "migrations"
_LOCK = 0x74756E65736D6974  # any number that nobody else's advisory lock has


class NotMigratedError(Exception):
    """The tables are not those of this version. The message says what to do."""


async def migrate(engine: AsyncEngine) -> str:
    """Bring the tables up to date, in one transaction, and return the revision that they have then.

    Replicas may do it at the same time: one does it, the others wait for it and find nothing to do.
    """
    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        await connection.run_sync(_upgrade)
    return newest()


async def check_migrated(engine: AsyncEngine) -> None:
    """Check that the tables are those of this version.

    Raises:
        NotMigratedError: They are older, newer, or not there.
    """
    async with engine.connect() as connection:
        found = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    if found != newest():
        raise NotMigratedError(
            f"the database's tables are {f'at revision {found}' if found else 'not there'}, this version needs "
            f"{newest()}; run `tunesmith hosted migrate` of this version"
        )


def newest() -> str:
    """Return the newest revision."""
    return str(ScriptDirectory(str(STEPS)).get_current_head())


def differences(connection: Connection) -> list[object]:
    """Return what the tables in a database and those of the code do not have in common."""
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, Table.metadata))


def write_step(connection: Connection, message: str, revision: str) -> None:
    """Write the step from the tables in a database to those of the code, for the developer to read and correct."""
    command.revision(_config(connection), message, autogenerate=True, rev_id=revision)


def _upgrade(connection: Connection) -> None:
    command.upgrade(_config(connection), "head")


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(STEPS).replace("%", "%%"))
    config.set_main_option("file_template", "step_%%(rev)s_%%(slug)s")
    config.attributes["connection"] = connection
    return config
