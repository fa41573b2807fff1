"""Request ids, the access log, metrics, and an answer where the code fails."""

from __future__ import annotations

import logging
import time
from typing import Any

from sqlalchemy.exc import OperationalError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith_hosted.database.ids import new_request_id
from tunesmith_hosted.http.errors import ApiError
from tunesmith_hosted.http.metrics import Metrics

_access = logging.getLogger("tunesmith_hosted.access")
_logger = logging.getLogger(__name__)
_AWAY_SECONDS = 1
_CLIENT_GONE = 499
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Observation:
    """The outermost middleware.

    It logs ids and templates of routes only: paths, queries, headers and bodies may hold names, keys and rows of data.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, begun = new_request_id(), time.perf_counter()
        scope.setdefault("state", {})["request_id"] = request_id
        answer: dict[str, Any] = {"status": 0, "seconds": 0.0}

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer["status"], answer["seconds"] = message["status"], time.perf_counter() - begun
                processing = str(round(1000 * answer["seconds"])).encode()
                ours = (b"x-request-id", request_id.encode()), (b"openai-processing-ms", processing)
                message["headers"] = [*message.get("headers", ()), *ours]
            await send(message)

        self._metrics.in_flight += 1
        try:
            await self._app(scope, receive, observed)
        except ClientDisconnect:
            answer["status"] = answer["status"] or _CLIENT_GONE
        except Exception as error:
            away = isinstance(error, OperationalError)
            fields = {"fields": {"request_id": request_id}}
            _logger.error(
                "the database did not answer" if away else "a request failed", exc_info=not away, extra=fields
            )
            if answer["status"]:
                raise
            failed = _database_away() if away else _server_error(request_id)
            await failed.response()(scope, receive, observed)
        finally:
            self._metrics.in_flight -= 1
            self._record(scope, request_id, answer, time.perf_counter() - begun)

    def _record(self, scope: Scope, request_id: str, answer: dict[str, Any], seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.count(method, route, answer["status"], answer["seconds"])
        if route in {"/healthz", "/readyz", "/metrics"}:
            return
        caller = scope["state"].get("caller")
        fields = {
            "request_id": request_id,
            "method": method,
            "route": route,
            "status": answer["status"],
            "first_byte_ms": round(1000 * answer["seconds"], 1),
            "ms": round(1000 * seconds, 1),
            "project": caller.project_id if caller else None,
            "actor": caller.actor if caller else None,
        }
        _access.info("request", extra={"fields": fields})


def _database_away() -> ApiError:
    message = "The database does not answer; try again"
    return ApiError(
        503, message, type="server_error", code="database_unavailable", headers={"Retry-After": str(_AWAY_SECONDS)}
    )


def _server_error(request_id: str) -> ApiError:
    message = f"The server failed on this request; an administrator finds it in the log as {request_id}"
    return ApiError(500, message, type="server_error")
