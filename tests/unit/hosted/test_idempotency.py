"""Answers are kept for their `Idempotency-Key` also if the database is away when they are sent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from starlette.responses import JSONResponse

from tunesmith_hosted.database.tables import IdempotencyKey
from tunesmith_hosted.http import idempotency


class Sessions:
    """A database with one row that is away a few times after it was written."""

    def __init__(self, failures: int) -> None:
        self.row: IdempotencyKey | None = None
        self._failures = failures

    @asynccontextmanager
    async def begin(self) -> AsyncIterator["Sessions"]:
        if self.row is not None and self._failures:
            self._failures -= 1
            raise OperationalError("", {}, ConnectionError())
        yield self

    async def execute(self, statement: Any) -> None:
        pass

    def add(self, row: IdempotencyKey) -> None:
        self.row = row

    async def get(self, table: Any, key: Any) -> IdempotencyKey | None:
        return self.row


@pytest.mark.parametrize(("failures", "status"), [(0, 200), (3, 200), (1000, None)])
def test_an_answer_is_kept_once_the_database_is_back(
    monkeypatch: pytest.MonkeyPatch, failures: int, status: int | None
) -> None:
    monkeypatch.setattr(idempotency, "_PAUSE_SECONDS", 0)
    sessions: Any = Sessions(failures)
    scope = {
        "type": "http", "method": "POST", "path": "/v1/files", "raw_path": b"/v1/files", "query_string": b"",
        "headers": [(b"idempotency-key", b"a")], "state": {"caller": SimpleNamespace(project_id="proj_1")},
    }  # fmt: skip
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    app = idempotency.Idempotency(JSONResponse({"id": "file-1"}), sessions)
    asyncio.run(app(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sessions.row.status == status
    assert sessions.row.body == (None if status is None else {"id": "file-1"})
