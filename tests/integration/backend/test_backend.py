"""What a backend does, whatever it keeps its objects in."""

import asyncio

import pytest
import yaml

from support.manifests import config_map, job, workspace
from tunesmith_api.manifests import load_manifests
from tunesmith_api.objects import API_VERSION
from tunesmith_backend.cluster.backend import ClusterBackend
from tunesmith_backend.cluster.client import ClusterClient
from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.interface.protocol import ObjectRef
from tunesmith_backend.local.backend import LocalBackend

pytestmark = pytest.mark.integration


@pytest.fixture
def manifests(tmp_path, namespace):
    def load(*objects):
        for item in objects:
            item["metadata"]["namespace"] = namespace
        path = tmp_path / "all.yaml"
        path.write_text(yaml.safe_dump_all(objects))
        loaded = load_manifests([path])
        assert loaded.findings == []
        return loaded

    return load


@pytest.mark.asyncio
async def test_an_object_from_its_application_to_its_deletion(cluster, namespace, manifests):
    backend = ClusterBackend(await ClusterClient.connect(str(cluster.kubeconfig), cluster.context))
    try:
        applied = manifests(job(suspend=True), workspace(replicas=0), config_map())
        assert await backend.validate(applied) == []
        assert await backend.list("FineTuneJob", namespace) == []
        refs = await backend.apply(applied)
        assert refs == [ObjectRef(kind, "tiny", namespace) for kind in ("FineTuneJob", "InferenceWorkspace")]
        tiny, served = refs
        assert (await backend.get(tiny))["spec"]["suspend"] is True
        assert [item["metadata"]["name"] for item in await backend.list("FineTuneJob", namespace)] == ["tiny"]
        assert "rows.jsonl" in cluster.get("ConfigMap", "tiny-data", namespace)["data"]

        changes = backend.watch(tiny)
        assert (await anext(changes))["spec"]["suspend"] is True
        await backend.suspend(tiny, False)
        assert (await asyncio.wait_for(anext(changes), 10))["spec"]["suspend"] is False
        assert [line async for line in backend.logs(tiny)] == []

        assert await backend.endpoint(served) is None
        status = {"apiVersion": API_VERSION, "status": {"endpoint": "http://tiny/v1"}}
        cluster.patch("InferenceWorkspace", "tiny", status, namespace, "status")
        assert await backend.endpoint(served) == "http://tiny/v1"

        await backend.delete(tiny)
        assert [item async for item in changes] == []
        with pytest.raises(BackendError) as caught:
            await backend.get(tiny)
        assert caught.value.kind is ErrorKind.NOT_FOUND
    finally:
        await backend.close()


@pytest.mark.asyncio
async def test_what_cannot_change_is_refused(cluster, namespace, manifests):
    backend = ClusterBackend(await ClusterClient.connect(str(cluster.kubeconfig), cluster.context))
    try:
        (ref,) = await backend.apply(manifests(job(suspend=True), config_map()))
        other = manifests(job(suspend=True, training={"maxSteps": 3, "maxLength": 128}), config_map())
        (finding,) = await backend.validate(other)
        assert finding.message
        with pytest.raises(BackendError) as caught:
            await backend.apply(other)
        assert caught.value.kind is ErrorKind.INVALID
        with pytest.raises(BackendError):
            await backend.suspend(ObjectRef("InferenceWorkspace", ref.name, namespace))
    finally:
        await backend.close()


@pytest.mark.asyncio
async def test_this_machine_runs_stops_and_goes_on(tmp_path):
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump_all([job(suspend=True), workspace(replicas=0), config_map()]))
    backend = LocalBackend(tmp_path / "work")
    try:
        manifests = load_manifests([path])
        assert await backend.validate(manifests) == []
        tiny, served = await backend.apply(manifests)
        assert [item["metadata"]["name"] for item in await backend.list("FineTuneJob")] == ["tiny"]
        changes = backend.watch(tiny)
        assert (await anext(changes))["spec"]["suspend"] is True
        await backend.suspend(tiny, False)
        async with asyncio.timeout(60):
            async for item in changes:
                if item.get("status", {}).get("attempts", {}).get("prepare"):
                    break
        item = await backend.suspend(tiny)
        assert item["spec"]["suspend"] is True
        await backend.close()
        assert all(isinstance(line, str) for line in [line async for line in backend.logs(tiny)])
        assert await backend.endpoint(served) is None
        with pytest.raises(BackendError):
            await backend.suspend(served)
        await backend.delete(tiny)
        with pytest.raises(BackendError) as caught:
            await backend.get(tiny)
        assert caught.value.kind is ErrorKind.NOT_FOUND
        assert (await backend.get(served))["status"]["phase"] == "Stopped"
    finally:
        await backend.close()
