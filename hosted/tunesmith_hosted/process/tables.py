"""The database, with the tables of this version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tunesmith_hosted.config.settings import Settings
from tunesmith_hosted.database.engine import Sessions, connect, sessions_of
from tunesmith_hosted.database.migrate import check_migrated, migrate


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Sessions]:
    """Yield what opens sessions; connections are closed afterwards.

    On one machine the tables are migrated. On a cluster several replicas start at once, so `migrate` is a command.

    Raises:
        NotMigratedError: On a cluster, the tables are not those of this version.
    """
    engine = connect(settings.database)
    try:
        if settings.backend == "local":
            await migrate(engine)
        else:
            await check_migrated(engine)
        yield sessions_of(engine)
    finally:
        await engine.dispose()
