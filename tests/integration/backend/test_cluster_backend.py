"""What only the backend over a cluster does: status of others, watches that expire, pods that have not started."""

import asyncio
from contextlib import aclosing

import pytest

from support.manifests import config_map, job, workspace
from tunesmith_api.objects import API_VERSION
from tunesmith_backend.cluster.backend import ClusterBackend
from tunesmith_backend.cluster.client import ClusterClient, VersionExpiredError
from tunesmith_backend.interface.errors import BackendError, ErrorKind

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


class ForgetfulClient(ClusterClient):
    """Asks for a version that no API server has any more, in place of those up to `oldest`."""

    expired = 0
    oldest = 0

    async def changes(self, path, query):
        if int(query["resourceVersion"]) <= self.oldest:
            query = {**query, "resourceVersion": "1"}
        try:
            async for change in super().changes(path, query):
                yield change
        except VersionExpiredError:
            self.expired += 1
            raise


@pytest.mark.parametrize("subject", ["cluster"], indirect=True)
async def test_the_endpoint_is_what_the_operator_writes(subject, cluster):
    (ref,) = await subject.backend.apply(subject.load(workspace(replicas=0)))
    assert await subject.backend.endpoint(ref) is None
    status = {"apiVersion": API_VERSION, "status": {"endpoint": "http://tiny/v1"}}
    cluster.patch("InferenceWorkspace", "tiny", status, subject.namespace, "status")
    assert await subject.backend.endpoint(ref) == "http://tiny/v1"


@pytest.mark.parametrize("subject", ["cluster"], indirect=True)
async def test_a_watch_that_has_expired_lists_and_watches_on(subject, cluster):
    client = await ForgetfulClient.connect(str(cluster.kubeconfig), cluster.context)
    backend = ClusterBackend(client)
    try:
        (ref,) = await backend.apply(subject.load(job(suspend=True), config_map()))
        async with asyncio.timeout(300), aclosing(backend.watch(ref)) as changes:
            found = await anext(changes)
            assert found["spec"]["suspend"] is True
            client.oldest = int(found["metadata"]["resourceVersion"])
            await subject.backend.apply(subject.load(job("other", suspend=True), config_map("other")))
            waiting = asyncio.ensure_future(anext(changes))
            while not client.expired:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            assert not waiting.done(), "yielded though nothing had changed"
            assert client.expired == 1, "watched again from the same version"
            await subject.backend.suspend(ref, False)
            assert (await waiting)["spec"]["suspend"] is False
            await subject.backend.delete(ref)
            assert [item async for item in changes] == []
    finally:
        await backend.close()


@pytest.mark.parametrize("subject", ["cluster"], indirect=True)
async def test_a_watch_that_has_expired_ends_when_the_object_is_gone(subject, cluster):
    client = await ForgetfulClient.connect(str(cluster.kubeconfig), cluster.context)
    backend = ClusterBackend(client)
    try:
        (ref,) = await backend.apply(subject.load(job(suspend=True), config_map()))
        async with asyncio.timeout(300), aclosing(backend.watch(ref)) as changes:
            client.oldest = int((await anext(changes))["metadata"]["resourceVersion"])
            await subject.backend.delete(ref)
            # Another object under the same name is not the one that is watched.
            await subject.backend.apply(subject.load(job(suspend=True), config_map()))
            assert [item async for item in changes] == []
        assert client.expired == 1
    finally:
        await backend.close()


@pytest.mark.parametrize("subject", ["cluster"], indirect=True)
async def test_a_pod_that_has_not_started_has_no_lines(subject, cluster):
    (ref,) = await subject.backend.apply(subject.load(job(suspend=True), config_map()))
    uid = (await subject.backend.get(ref))["metadata"]["uid"]
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "tiny-prepare",
                "namespace": subject.namespace,
                "labels": {"tunesmith.dev/owner-uid": uid, "tunesmith.dev/stage": "prepare"},
            },
            "spec": {"containers": [{"name": "stage", "image": "none", "securityContext": security}]},
        }
    )
    assert [line async for line in subject.backend.logs(ref)] == []


@pytest.mark.parametrize("subject", ["cluster"], indirect=True)
async def test_a_field_that_somebody_else_has_changed_is_refused_or_taken_back(subject, cluster):
    (ref,) = await subject.backend.apply(subject.load(workspace()))
    cluster.patch("InferenceWorkspace", ref.name, {"spec": {"runtime": {"maxBatchSize": 9}}}, subject.namespace)
    with pytest.raises(BackendError, match="conflict") as caught:
        await subject.backend.apply(subject.load(workspace()))
    assert caught.value.kind is ErrorKind.RETRY
    service = ClusterBackend(subject.backend.client, "tunesmith-hosted", force=True)
    await service.apply(subject.load(workspace()))
    found = await service.get(ref)
    assert found["spec"]["runtime"]["maxBatchSize"] == 2
    managers = {entry["manager"] for entry in found["metadata"]["managedFields"]}
    assert "tunesmith-hosted" in managers


@pytest.mark.parametrize("subject", ["cluster"], indirect=True)
async def test_what_changes_in_a_namespace_is_told_also_after_a_gap(subject, cluster):
    client = await ForgetfulClient.connect(str(cluster.kubeconfig), cluster.context)
    backend = ClusterBackend(client)
    try:
        (ref,) = await backend.apply(subject.load(job(suspend=True), config_map()))
        async with asyncio.timeout(300), aclosing(backend.changed("FineTuneJob", subject.namespace)) as changes:
            assert await anext(changes) == ref
            client.oldest = int((await backend.get(ref))["metadata"]["resourceVersion"]) + 1
            (other,) = await backend.apply(subject.load(job("other", suspend=True), config_map("other")))
            found = set()
            while found != {ref, other}:
                found.add(await anext(changes))
            assert client.expired
            await backend.delete(other)
            assert await anext(changes) == other
    finally:
        await backend.close()
