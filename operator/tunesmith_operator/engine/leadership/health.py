"""The HTTP server of /healthz, /readyz and /metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


class HealthServer:
    """Answers probes and Prometheus on one port.

    Args:
        registry: The metrics.
        is_healthy: Returns why the process must be restarted, or None.
        is_ready: Returns why it is not ready yet, or None.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        is_healthy: Callable[[], str | None],
        is_ready: Callable[[], str | None],
    ) -> None:
        self._registry = registry
        app = web.Application()
        app.router.add_get("/healthz", _probe(is_healthy))
        app.router.add_get("/readyz", _probe(is_ready))
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        self.port = 0

    async def start(self, port: int) -> None:
        """Listen on all addresses.

        Args:
            port: The port; 0 for any, which `port` then says.

        Raises:
            OSError: The port is taken.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, port=port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _probe(problem: Callable[[], str | None]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        text = problem()
        return web.Response(text=text or "ok", status=503 if text else 200)

    return answer
