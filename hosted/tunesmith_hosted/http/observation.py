"""Request ids, the access log, metrics, and an answer where the code fails."""

from __future__ import annotations

import logging
import time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith_hosted.database.ids import new_id
from tunesmith_hosted.http.errors import ApiError
from tunesmith_hosted.http.metrics import Metrics

_access = logging.getLogger("tunesmith_hosted.access")
_logger = logging.getLogger(__name__)
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
        request_id, begun = new_id("req"), time.perf_counter()
        scope.setdefault("state", {})["request_id"] = request_id
        answer: dict[str, Any] = {"status": 0, "seconds": 0.0}

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer["status"], answer["seconds"] = message["status"], time.perf_counter() - begun
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(round(1000 * answer["seconds"]))
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, observed)
        except Exception:
            _logger.exception("a request failed", extra={"fields": {"request_id": request_id}})
            if answer["status"]:
                raise
            await _server_error(request_id).response()(scope, receive, observed)
        finally:
            self._metrics.in_flight.dec()
            self._record(scope, request_id, answer, time.perf_counter() - begun)

    def _record(self, scope: Scope, request_id: str, answer: dict[str, Any], seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.requests.labels(method, route, str(answer["status"])).inc()
        self._metrics.seconds.labels(method, route).observe(answer["seconds"])
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


def _server_error(request_id: str) -> ApiError:
    message = f"The server failed on this request; an administrator finds it in the log as {request_id}"
    return ApiError(500, message, type="server_error")
