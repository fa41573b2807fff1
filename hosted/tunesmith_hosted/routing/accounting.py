"""What was asked, added up in memory and written once a second: a request costs no write to the database."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import AbstractContextManager

from sqlalchemy import update

from tunesmith_hosted.database.tables import ServedBase, TunedModel
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.routing.answers import Tokens
from tunesmith_hosted.routing.targets import Target
from tunesmith_hosted.tenants.usage import add_usage

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
_MINUTE = 60


class Accounting:
    """Counts requests and tokens, and notes when models were used.

    Args:
        context: The service.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._usage: dict[tuple[str, str], Counter[str]] = {}
        self._open: Counter[Target] = Counter()
        self._used: set[Target] = set()
        self._noted: dict[str, float] = {}
        # Rarer than a model's sleep is long, or it would fall asleep while it is used.
        self._every = min(_MINUTE, context.settings.idle_seconds / 4)

    def using(self, target: Target) -> AbstractContextManager[None]:
        """Keep a model awake meanwhile."""
        return _Using(self, target)

    def begin(self, target: Target) -> None:
        """Note that a model is used from now on."""
        self._open[target] += 1

    def end(self, target: Target) -> None:
        """Note that a use has ended."""
        self._used.add(target)
        self._open[target] -= 1
        if not self._open[target]:
            del self._open[target]

    def add(self, project_id: str, model: str, tokens: Tokens | None) -> None:
        """Count an answered request."""
        tokens = tokens or Tokens()
        counts = self._usage.setdefault((project_id, model), Counter())
        counts["requests"] += 1
        counts["input_tokens"] += tokens.input
        counts["cached_tokens"] += tokens.cached
        counts["output_tokens"] += tokens.output

    async def run(self) -> None:
        """Write once a second, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except Exception:
                log.exception("usage could not be written; it is tried again")

    async def flush(self) -> None:
        """Write what was counted. If it fails, nothing is lost."""
        now = self._context.now()
        usage, self._usage = self._usage, {}
        used, self._used = self._used | set(self._open), set()
        due = {target for target in used if now - self._noted.get(target.subject, 0.0) >= self._every}
        if not usage and not due:
            return
        try:
            async with self._context.sessions.begin() as session:
                # In one order, so that replicas do not wait for one another in a circle.
                for (project_id, model), counts in sorted(usage.items()):
                    await add_usage(session, project_id, model, **counts)
                for target in sorted(due, key=lambda target: target.subject):
                    table, id = (ServedBase, ServedBase.name) if target.is_base else (TunedModel, TunedModel.id)
                    await session.execute(update(table).where(id == target.name).values(last_used_at=int(now)))
        except BaseException:
            for key, counts in usage.items():
                self._usage.setdefault(key, Counter()).update(counts)
            self._used |= used
            raise
        self._noted.update((target.subject, now) for target in due)


class _Using:
    """What `using` returns. By contextlib it would take as long as all else here."""

    def __init__(self, accounting: Accounting, target: Target) -> None:
        self._accounting, self._target = accounting, target

    def __enter__(self) -> None:
        self._accounting.begin(self._target)

    def __exit__(self, *_: object) -> None:
        self._accounting.end(self._target)
