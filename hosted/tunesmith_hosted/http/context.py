"""What routes work with, kept in the application's state."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from tunesmith_backend.interface.protocol import Backend
from tunesmith_hosted.config.settings import Settings
from tunesmith_hosted.database.engine import Sessions
from tunesmith_hosted.http.notices import Notices


@dataclass(frozen=True)
class Context:
    """The parts of a running service.

    Attributes:
        settings: The administrator's settings.
        sessions: Opens sessions of the database.
        backend: Runs jobs and servers.
        now: The time, in Unix seconds.
        notices: Tells of models that this replica's reconciler has written about.
        wake_reconciler: Tells this replica's reconciler that there is work; a poll finds it anyway.
    """

    settings: Settings
    sessions: Sessions
    backend: Backend
    wake_reconciler: Callable[[], None]
    now: Callable[[], float] = time.time
    notices: Notices = field(default_factory=Notices)


def context_of(request: Request) -> Context:
    """Return the context of the application that a request came to."""
    return cast(Context, request.app.state.context)


ContextOf = Annotated[Context, Depends(context_of)]
"""The context, as a parameter of a route."""
