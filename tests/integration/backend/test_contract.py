"""What clients may rely on in every backend. The jobs are suspended and the workspaces have no replicas."""

import asyncio
from contextlib import aclosing

import pytest

from support.manifests import ROWS, config_map, job, workspace
from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.interface.protocol import ObjectRef

pytestmark = pytest.mark.asyncio


def names(items):
    return [(item["kind"], item["metadata"]["name"]) for item in items]


async def test_what_is_applied_can_be_read_and_listed(subject):
    manifests = subject.load(
        job("b", suspend=True), job("a", suspend=True), workspace("a", replicas=0), config_map("a"), config_map("b")
    )
    assert await subject.backend.validate(manifests) == []
    assert await subject.backend.list("FineTuneJob", subject.namespace) == []
    assert subject.config_map("a-data") == {}, "validate writes nothing"

    refs = await subject.backend.apply(manifests)
    expected = [("FineTuneJob", "b"), ("FineTuneJob", "a"), ("InferenceWorkspace", "a")]
    assert refs == [ObjectRef(kind, name, subject.namespace) for kind, name in expected]
    assert set(subject.config_map("a-data")) == {"rows.jsonl"}
    found = await subject.backend.get(refs[1])
    assert found["spec"]["suspend"] is True
    assert found["metadata"]["namespace"] == subject.namespace
    assert names(await subject.backend.list("FineTuneJob", subject.namespace)) == [
        ("FineTuneJob", "a"),
        ("FineTuneJob", "b"),
    ]
    assert names(await subject.backend.list("InferenceWorkspace", subject.namespace)) == [("InferenceWorkspace", "a")]
    assert await subject.backend.list("FineTuneJob", "another-namespace") == []
    everywhere = await subject.backend.list("FineTuneJob")
    assert {"a", "b"} <= {i["metadata"]["name"] for i in everywhere if i["metadata"]["namespace"] == subject.namespace}


async def test_applied_again_with_a_field_that_can_change(subject):
    (ref,) = await subject.backend.apply(subject.load(job(suspend=True), config_map()))
    again = subject.load(job(suspend=True, ttlSecondsAfterFinished=60), config_map())
    assert await subject.backend.validate(again) == []
    assert await subject.backend.apply(again) == [ref]
    assert (await subject.backend.get(ref))["spec"]["ttlSecondsAfterFinished"] == 60


@pytest.mark.parametrize(
    "change", [{"evaluation": {"maxRows": 9}}, {"export": {"precisions": ["int4"]}}, {"output": {"uri": "s3://b/a"}}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
async def test_what_only_publish_reads_can_change_until_the_job_has_succeeded(subject, change):
    (ref,) = await subject.backend.apply(subject.load(job(suspend=True), config_map()))
    before = await subject.backend.get(ref)
    changed = subject.load(job(suspend=True, **change), config_map())
    assert await subject.backend.validate(changed) == []
    await subject.backend.apply(changed)
    after = await subject.backend.get(ref)
    assert after["spec"] != before["spec"]
    subject.succeed("tiny")
    await subject.backend.apply(changed)
    back = subject.load(job(suspend=True), config_map())
    (finding,) = await subject.backend.validate(back)
    assert next(iter(change)) in f"{finding}"
    with pytest.raises(BackendError, match="succeeded") as caught:
        await subject.backend.apply(back)
    assert caught.value.kind is ErrorKind.INVALID
    assert (await subject.backend.get(ref))["spec"] == after["spec"]


async def test_a_change_that_is_refused_writes_nothing(subject):
    (ref,) = await subject.backend.apply(subject.load(job(suspend=True), config_map()))
    before, data = await subject.backend.get(ref), subject.config_map("tiny-data")
    changed = subject.load(
        job("new", suspend=True),
        job(suspend=True, training={"maxSteps": 3, "maxLength": 128}),
        workspace("new", replicas=0),
        config_map(rows=ROWS[:20]),
        config_map("new"),
    )
    (finding,) = await subject.backend.validate(changed)
    assert "training" in f"{finding}"
    assert finding.remedy
    with pytest.raises(BackendError, match="training") as caught:
        await subject.backend.apply(changed)
    assert caught.value.kind is ErrorKind.INVALID
    assert (await subject.backend.get(ref))["spec"] == before["spec"]
    assert subject.config_map("tiny-data") == data
    assert subject.config_map("new-data") == {}
    assert names(await subject.backend.list("FineTuneJob", subject.namespace)) == [("FineTuneJob", "tiny")]
    assert await subject.backend.list("InferenceWorkspace", subject.namespace) == []


async def test_a_job_is_suspended_and_resumed(subject):
    manifests = subject.load(job(suspend=True), workspace(replicas=0), config_map())
    tiny, served = await subject.backend.apply(manifests)
    assert (await subject.backend.suspend(tiny, False))["spec"].get("suspend", False) is False
    assert (await subject.backend.suspend(tiny))["spec"]["suspend"] is True
    with pytest.raises(BackendError, match="replicas") as caught:
        await subject.backend.suspend(served)
    assert caught.value.kind is ErrorKind.INVALID


async def test_a_watch_yields_the_object_then_its_changes_and_ends(subject):
    def manifests(**runtime):
        return subject.load(workspace(replicas=0, runtime={"precision": "fp32", **runtime}))

    (ref,) = await subject.backend.apply(manifests())
    async with asyncio.timeout(300), aclosing(subject.backend.watch(ref)) as changes:
        assert (await anext(changes))["metadata"]["name"] == "tiny"
        await subject.backend.apply(manifests(maxQueueLength=9))
        async for item in changes:
            if item["spec"]["runtime"].get("maxQueueLength") == 9:
                break
        await subject.backend.delete(ref)
        async for item in changes:
            assert item["metadata"]["name"] == "tiny"
    assert await subject.backend.list("InferenceWorkspace", subject.namespace) == []


async def test_nothing_has_run_so_there_are_no_lines_and_no_endpoint(subject):
    tiny, served = await subject.backend.apply(subject.load(job(suspend=True), workspace(replicas=0), config_map()))
    assert [line async for line in subject.backend.logs(tiny)] == []
    assert [line async for line in subject.backend.logs(served, follow=True)] == []
    assert await subject.backend.endpoint(served) is None


@pytest.mark.parametrize("kind", ["FineTuneJob", "InferenceWorkspace"])
async def test_what_is_not_there_is_not_found(subject, kind):
    ref = ObjectRef(kind, "nothing", subject.namespace)
    calls = {
        "get": lambda: subject.backend.get(ref),
        "delete": lambda: subject.backend.delete(ref),
        "watch": lambda: anext(subject.backend.watch(ref)),
        "logs": lambda: anext(subject.backend.logs(ref)),
        "endpoint": lambda: subject.backend.endpoint(ref),
    }
    if kind == "FineTuneJob":
        calls["suspend"] = lambda: subject.backend.suspend(ref)
    for name, call in calls.items():
        with pytest.raises(BackendError) as caught:
            await call()
        assert caught.value.kind is ErrorKind.NOT_FOUND, name
        assert "nothing" in str(caught.value), name


async def test_a_deleted_job_is_gone_and_can_be_made_anew_with_another_spec(subject):
    (ref,) = await subject.backend.apply(subject.load(job(suspend=True), config_map()))
    await subject.backend.delete(ref)
    with pytest.raises(BackendError) as caught:
        await subject.backend.get(ref)
    assert caught.value.kind is ErrorKind.NOT_FOUND
    changed = subject.load(job(suspend=True, training={"maxSteps": 3, "maxLength": 128}), config_map())
    assert await subject.backend.apply(changed) == [ref]
    assert (await subject.backend.get(ref))["spec"]["training"]["maxSteps"] == 3
