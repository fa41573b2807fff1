"""Children at a real API server, written one after the other."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from cluster.client import Cluster
from support.engine_process import child
from support.manifests import job
from tunesmith_operator.engine.apply.children import ChildWriter
from tunesmith_operator.engine.kube.client import KubeClient
from tunesmith_operator.engine.metrics import Metrics
from tunesmith_operator.engine.watch.store import ObjectStore

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

Object = dict[str, Any]


class World:
    def __init__(self, client: KubeClient, owner: Object) -> None:
        self.owner = owner
        self.metrics = Metrics()
        self.writer = ChildWriter(client, ObjectStore(), lambda owner, child: None)

    def service(self, **annotations: str) -> Object:
        spec = {"clusterIP": "None", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
        made = child(self.owner, "v1", "Service", "s", spec)
        made["metadata"]["annotations"] = annotations
        return made


@pytest_asyncio.fixture
async def world(cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    client = await KubeClient.connect(Metrics().requests)
    yield World(client, cluster.apply(job("a"), namespace)[0])
    await client.close()


async def test_what_was_created_is_kept_and_loses_what_is_no_longer_wanted(
    world: World, cluster: Cluster, namespace: str
) -> None:
    assert await world.writer.ensure(world.owner, world.service(ours="1", more="1"))
    assert not await world.writer.ensure(world.owner, world.service(ours="1", more="1"))
    cluster.patch("Service", "s", {"metadata": {"annotations": {"theirs": "1"}}}, namespace)
    without = world.service(ours="2")
    del without["metadata"]["ownerReferences"]
    assert await world.writer.ensure(world.owner, without)
    found = cluster.get("Service", "s", namespace)["metadata"]
    kept = {name: value for name, value in found["annotations"].items() if "/" not in name}
    assert kept == {"ours": "2", "theirs": "1"}
    assert "ownerReferences" not in found
    managers = [(entry["manager"], entry["operation"]) for entry in found["managedFields"]]
    assert ("tunesmith", "Apply") in managers
    assert ("tunesmith", "Update") not in managers
    assert not await world.writer.ensure(world.owner, without)


async def test_a_value_that_the_server_writes_its_own_way_is_no_drift(world: World, cluster: Cluster) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}
    claim = child(world.owner, "v1", "PersistentVolumeClaim", "c", spec)
    assert await world.writer.ensure(world.owner, claim)
    assert not await world.writer.ensure(world.owner, claim)
