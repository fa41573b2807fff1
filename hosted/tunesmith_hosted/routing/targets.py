"""From the name of a model to the server that answers for it; one that sleeps is woken."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from sqlalchemy.exc import IntegrityError

from tunesmith_hosted.database.outbox import ask_for
from tunesmith_hosted.database.tables import ServedBase, TunedModel
from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.http.errors import ApiError, model_not_found
from tunesmith_hosted.models.finding import Found, find_model, model_row
from tunesmith_hosted.models.names import base_workspace

KNOWN_SECONDS = 1.0
"""For how long a server is known without asking the database."""

WAKE_SECONDS = 300.0
"""How long a request waits for a model that wakes."""

_POLL_SECONDS = 0.1  # another replica may have woken it, which tells nobody here
_ASK_SECONDS = 60.0
_MOST_KNOWN = 10_000
_TRIES = 5


@dataclass(frozen=True)
class Target:
    """A model that a caller may ask.

    Attributes:
        name: Its public name; of a base not an alias.
        is_base: Whether it is a base model.
        served: Its server's name of it, which is the name of its InferenceWorkspace.
        endpoint: Base URL of its server; None while it sleeps.
    """

    name: str
    is_base: bool
    served: str
    endpoint: str | None = None

    @property
    def subject(self) -> str:
        """What the outbox knows it by."""
        return f"base:{self.name}" if self.is_base else self.name


class Targets:
    """Finds servers, and remembers them for a moment.

    Args:
        context: The service.
        wake_seconds: How long to wait for a model that wakes.
    """

    def __init__(self, context: Context, wake_seconds: float = WAKE_SECONDS) -> None:
        self._context = context
        self._wake_seconds = wake_seconds
        self._known: dict[tuple[str, str], tuple[float, Target]] = {}
        self._finding: dict[tuple[str, str], asyncio.Task[tuple[Found, Target]]] = {}
        self._waking: dict[str, asyncio.Task[Target]] = {}

    def known(self, caller: Caller, name: str) -> Target | None:
        """Return a model that was found a moment ago, without asking the database; None if it was not."""
        until, target = self._known.get((caller.project_id, name), (0.0, None))
        return target if time.monotonic() < until else None

    async def awake(self, caller: Caller, name: str) -> Target:
        """Return the model of a name with the server that answers for it.

        Raises:
            ApiError: There is no such model that the caller may ask, or it does not wake in time.
        """
        if (known := self.known(caller, name)) is not None:
            return known
        found, target = await self._found(caller, name)
        if target.endpoint is None:
            target = await self._woken(found, target)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[caller.project_id, name] = (time.monotonic() + KNOWN_SECONDS, target)
        return target

    def forget(self, caller: Caller, name: str) -> None:
        """Look again at the next request: the server was not there."""
        self._known.pop((caller.project_id, name), None)

    async def _found(self, caller: Caller, name: str) -> tuple[Found, Target]:
        key = caller.project_id, name
        task = self._finding.get(key)
        if task is None:  # those who ask meanwhile wait for the same: else each second began with a burst
            task = self._finding[key] = asyncio.create_task(self._find(caller, name))
            task.add_done_callback(lambda _: self._finding.pop(key, None))
        return await asyncio.shield(task)

    async def _find(self, caller: Caller, name: str) -> tuple[Found, Target]:
        async with self._context.sessions() as session:
            found = await find_model(session, self._context.settings, caller, name)
            if found is None:
                raise model_not_found(name)
            if found.base is not None:
                if not found.base.artifact:
                    message = f"The model `{name}` can be fine-tuned but not asked; ask a model that was tuned from it"
                    raise ApiError(404, message, param="model", code="model_not_found")
                return found, _of_base(found.name, await session.get(ServedBase, found.name))
        return found, Target(found.name, False, "") if found.model is None else _of_model(found.model)

    async def _woken(self, found: Found, target: Target) -> Target:
        task = self._waking.get(target.subject)
        if task is None:  # those who ask meanwhile wait for the same
            task = asyncio.create_task(self._wake(found, target))
            self._waking[target.subject] = task
            task.add_done_callback(lambda _: self._waking.pop(target.subject, None))
        return await asyncio.shield(task)

    async def _wake(self, found: Found, target: Target) -> Target:
        await self._ask_to_wake(found, target)
        begun = asked = time.monotonic()
        every = min(_ASK_SECONDS, self._context.settings.idle_seconds / 4)
        with self._context.notices.listening(target.subject) as changed:
            while True:
                changed.clear()
                target, message = await self._look(target)
                if target.endpoint is not None:
                    return target
                now = time.monotonic()
                if now - begun > self._wake_seconds:
                    break
                if now - asked > every:  # or it would fall asleep while it is waited for
                    await self._ask_to_wake(found, target)
                    asked = now
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_SECONDS):
                        await changed.wait()
        reason = f": {message}" if message else ""
        text = f"The model `{target.name}` is not awake yet{reason}; try again"
        raise ApiError(503, text, type="server_error", code="model_not_ready", headers={"Retry-After": "10"})

    async def _ask_to_wake(self, found: Found, target: Target) -> None:
        for attempt in range(_TRIES):
            try:
                async with self._context.sessions.begin() as session:
                    row: ServedBase | TunedModel | None
                    if target.is_base:
                        row = await session.get(ServedBase, target.name, with_for_update=True)
                        if row is None:
                            row = ServedBase(name=target.name, workspace=base_workspace(target.name))
                            session.add(row)
                    elif found.model is None:
                        row = await model_row(session, found)
                    else:
                        row = await session.get(TunedModel, target.name, with_for_update=True)
                    if row is None or row.wanted == "deleted":
                        raise model_not_found(target.name)
                    row.wanted = "awake"
                    row.last_used_at = int(self._context.now())
                    await ask_for(session, "model", target.subject)
                break
            except IntegrityError:  # another replica has added the row
                if attempt == _TRIES - 1:
                    raise
        self._context.wake_reconciler()

    async def _look(self, target: Target) -> tuple[Target, str | None]:
        async with self._context.sessions() as session:
            if target.is_base:
                base = await session.get(ServedBase, target.name)
                return _of_base(target.name, base), None if base is None else base.message
            model = await session.get(TunedModel, target.name)
            if model is None or model.deleted_at is not None:
                raise model_not_found(target.name)
            return _of_model(model), model.message


def _of_base(name: str, row: ServedBase | None) -> Target:
    target = Target(name, True, base_workspace(name) if row is None else row.workspace)
    return target if row is None or row.wanted != "awake" else replace(target, endpoint=row.endpoint)


def _of_model(row: TunedModel) -> Target:
    return Target(row.id, False, row.workspace, row.endpoint if row.wanted == "awake" else None)
