"""`Idempotency-Key`: a request that is sent again gets the answer of the first time, and does nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from typing import Any

from fastapi.responses import JSONResponse
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError, OperationalError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith_hosted.database.engine import Sessions
from tunesmith_hosted.database.tables import IdempotencyKey
from tunesmith_hosted.http.errors import ApiError

REPLAYED = "idempotent-replayed"
_KEPT_SECONDS = 86_400
_TRIES, _PAUSE_SECONDS = 10, 1.0
_MOST_BYTES = 4 * 2**20
_NOT_KEPT = frozenset({401, 403, 408, 409, 429})
# Answers of models are not kept: asking again is no harm, and they are rows of users' data.
_INFERENCE = ("/v1/chat/", "/v1/completions", "/v1/responses", "/v1/embeddings")


_logger = logging.getLogger(__name__)


class Idempotency:
    """A middleware for POST requests of a caller, inside authentication.

    A key belongs to a project for a day. What a form uploads is told apart by its length only: clients choose a new
    boundary each time. An answer with `Cache-Control: no-store`, which holds a secret, is not kept; neither is one that
    asks to try again. The row is written before the request is handled: if the process dies, nothing is done twice.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        caller = scope.get("state", {}).get("caller")
        key = Headers(scope=scope).get("idempotency-key") if scope["type"] == "http" else None
        if not key or caller is None or scope["method"] != "POST" or scope["path"].startswith(_INFERENCE):
            await self._app(scope, receive, send)
            return
        if len(key) > 255:
            message = "Idempotency-Key must have at most 255 characters; a random UUID will do"
            await ApiError(400, message, code="invalid_value").response()(scope, receive, send)
            return
        digest, receive = await _digest(scope, receive)
        answer = await self._begin(caller.project_id, key, digest)
        if answer is not None:
            await answer(scope, receive, send)
            return
        kept = _Kept(send)
        try:
            await self._app(scope, receive, kept)
        except OperationalError:
            raise  # The database may have done it without having said so: the key stays taken.
        except BaseException:
            await self._end(caller.project_id, key, kept)
            raise
        await self._keep(caller.project_id, key, kept)

    async def _keep(self, project_id: str, key: str, kept: _Kept) -> None:
        """Keep an answer that was sent, also if the database is away for a moment."""
        for _ in range(_TRIES):
            try:
                return await self._end(project_id, key, kept)
            except OperationalError:
                await asyncio.sleep(_PAUSE_SECONDS)
        _logger.warning("an answer was not kept, since the database does not answer; its Idempotency-Key stays taken")

    async def _begin(self, project_id: str, key: str, digest: str) -> JSONResponse | None:
        """Take a key, or return the answer to a request that has taken it before."""
        now = int(time.time())
        row = IdempotencyKey(project_id=project_id, key=key, digest=digest, created_at=now)
        try:
            async with self._sessions.begin() as session:
                await session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now - _KEPT_SECONDS))
                session.add(row)
            return None
        except IntegrityError:
            pass
        async with self._sessions() as session:
            mine = IdempotencyKey.project_id == project_id, IdempotencyKey.key == key
            found = (await session.execute(select(IdempotencyKey).where(*mine))).scalar_one_or_none()
        return _repeated(found, digest)

    async def _end(self, project_id: str, key: str, kept: _Kept) -> None:
        """Keep the answer, or give the key back so that the request can be tried again."""
        async with self._sessions.begin() as session:
            row = await session.get(IdempotencyKey, (project_id, key))
            if row is None:
                return
            if kept.status >= 500 or kept.status in _NOT_KEPT or kept.status == 0:
                await session.delete(row)
            else:
                row.status, row.body = kept.status, kept.content()


class _Kept:
    """Sends an answer, and remembers it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._body: list[bytes] = []
        self._is_secret = False
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._is_secret = "no-store" in Headers(raw=message["headers"]).get("cache-control", "")
        elif message["type"] == "http.response.body" and not self._is_secret:
            self._body.append(message.get("body", b""))
        await self._send(message)

    def content(self) -> dict[str, Any] | None:
        """Return the body, None where it is secret or no object."""
        if self._is_secret:
            return None
        try:
            body = json.loads(b"".join(self._body))
        except ValueError:
            return None
        return body if isinstance(body, dict) else None


def _repeated(found: IdempotencyKey | None, digest: str) -> JSONResponse:
    if found is not None and found.digest != digest:
        message = "This Idempotency-Key came with another request before; use a new key for each request"
        return ApiError(409, message, type="idempotency_error", code="idempotency_key_reused").response()
    if found is None or found.status is None:
        message = "The first request with this Idempotency-Key has no answer yet; look at what it made, or try later"
        return ApiError(409, message, type="idempotency_error", code="idempotency_key_in_use").response()
    if found.body is None:
        message = "This request was answered before, and its answer is not kept because it holds a secret"
        return ApiError(409, message, type="idempotency_error", code="idempotency_answer_not_kept").response()
    return JSONResponse(found.body, found.status, {REPLAYED: "true"})


async def _digest(scope: Scope, receive: Receive) -> tuple[str, Receive]:
    """Return what tells a request from others, and what the application receives it by."""
    headers = Headers(scope=scope)
    parts = [scope["method"].encode(), scope["raw_path"], scope["query_string"]]
    if not headers.get("content-type", "").startswith("application/json"):
        parts.append(headers.get("content-length", "").encode())
        return hashlib.sha256(b"\n".join(parts)).hexdigest(), receive
    messages: list[Message] = []
    size, more = 0, True
    while more and size <= _MOST_BYTES:
        message = await receive()
        messages.append(message)
        more = message["type"] == "http.request" and message.get("more_body", False)
        size += len(message.get("body", b""))
        parts.append(message.get("body", b""))

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return hashlib.sha256(b"\n".join(parts[:3]) + b"\n" + b"".join(parts[3:])).hexdigest(), again
