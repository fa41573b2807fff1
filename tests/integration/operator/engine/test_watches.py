"""kopf's watches over a real API server: directly from its streams, and by its public handler."""

import asyncio
import logging
from typing import Any

import pytest

from cluster.client import Cluster
from support.manifests import job
from tunesmith_operator.engine.kube.client import KubeClient
from tunesmith_operator.engine.metrics import Metrics
from tunesmith_operator.engine.watch import streams
from tunesmith_operator.engine.watch.watches import Watches

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


@pytest.mark.parametrize("is_direct", [True, False], ids=["streams", "handler"])
async def test_events_come_either_way(
    cluster: Cluster,
    namespace: str,
    is_direct: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is there is listed; what is made, changed and deleted afterwards comes in that order."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    kopfs_watcher = streams.queueing.watcher
    monkeypatch.setattr(streams.queueing, "watcher", kopfs_watcher)
    if not is_direct:
        monkeypatch.setattr(streams, "incompatibility", lambda: "something has changed")
    events: asyncio.Queue[tuple[str | None, str]] = asyncio.Queue()

    def take(type: str | None, obj: dict[str, Any]) -> None:
        if obj["kind"] == "FineTuneJob":
            events.put_nowait((type, obj["metadata"]["name"]))

    cluster.apply(job("before"), namespace)
    client = await KubeClient.connect(Metrics().requests)
    watches = Watches(client, (namespace,), 60, take, lambda: None, lambda: None)
    running = asyncio.create_task(watches.run())
    try:
        async with asyncio.timeout(300):
            with caplog.at_level(logging.WARNING):
                await watches.wait_open()
            assert (streams.queueing.watcher is kopfs_watcher) is not is_direct
            assert ("something has changed" in caplog.text) is not is_direct
            assert await events.get() == (None, "before")
            await asyncio.to_thread(cluster.apply, job("a"), namespace)
            assert await events.get() == ("ADDED", "a")
            change = {"metadata": {"labels": {"changed": "yes"}}}
            await asyncio.to_thread(cluster.patch, "FineTuneJob", "a", change, namespace)
            assert await events.get() == ("MODIFIED", "a")
            await asyncio.to_thread(cluster.delete, "FineTuneJob", "a", namespace)
            assert await events.get() == ("DELETED", "a")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.close()
