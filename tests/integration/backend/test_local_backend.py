"""What only the backend on this machine does: it runs the objects itself."""

import asyncio
import json
import urllib.request
from contextlib import aclosing

import pytest
import yaml

from support.manifests import ROWS, config_map, job, workspace
from tunesmith_api.manifests import load_manifests
from tunesmith_api.work_folder import Stage
from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.interface.events import Planned, Serving, StageStarted, Succeeded
from tunesmith_backend.local.backend import LocalBackend
from tunesmith_backend.local.store import locked, object_folder

pytestmark = pytest.mark.asyncio

JOB = {"training": {"maxSteps": 3, "globalBatchSize": 8, "maxLength": 128}}


def manifests(folder, *objects):
    path = folder / "all.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    return load_manifests([path])


async def test_tells_of_what_happens_to_its_objects(tmp_path):
    backend = LocalBackend(tmp_path / "work")
    async with aclosing(backend.announced()) as changes:
        first = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)  # it listens
        (ref,) = await backend.apply(manifests(tmp_path, workspace(replicas=0)))
        assert await asyncio.wait_for(first, 60) == ref
        assert (await backend.get(ref))["status"]["phase"] == "Stopped"
    await backend.close()


async def until(backend, ref, phase):
    """Watch an object until it has a phase, and return it."""
    async with asyncio.timeout(300), aclosing(backend.watch(ref)) as changes:
        async for item in changes:
            found = item.get("status", {}).get("phase")
            assert found == phase or found not in ("Failed", "Blocked"), item["status"]
            if found == phase:
                return item
    raise AssertionError(f"{ref} was deleted")


async def test_a_job_completes_and_is_served(tmp_path):
    events = []
    backend = LocalBackend(tmp_path / "work", emit=events.append)
    try:
        tiny, served = await backend.apply(manifests(tmp_path, job(**JOB), workspace(), config_map()))
        done = await until(backend, tiny, "Succeeded")
        assert done["status"]["attempts"] == {"prepare": 1, "train": 1, "publish": 1}
        lines = [line async for line in backend.logs(tiny, Stage.PREPARE)]
        assert any("rows to train on" in line for line in lines)
        everything = [line async for line in backend.logs(tiny)]
        assert everything[: len(lines)] == lines and len(everything) > len(lines)

        await until(backend, served, "Serving")
        endpoint = await backend.endpoint(served)
        with urllib.request.urlopen(f"{endpoint}/models", timeout=300) as response:
            assert [model["id"] for model in json.load(response)["data"]] == ["tiny"]
        assert [line async for line in backend.logs(served)]
        assert [type(event) for event in events if event.ref == tiny] == [Planned, *[StageStarted] * 3, Succeeded]
        assert any(isinstance(event, Serving) for event in events)

        # What a cluster refuses after success is refused here too, and nothing is touched.
        other = manifests(tmp_path, job(**JOB, output={"uri": "./elsewhere"}), workspace(), config_map(rows=ROWS[:9]))
        with pytest.raises(BackendError, match="has succeeded, and its output cannot change; .* delete") as caught:
            await backend.apply(other)
        assert caught.value.kind is ErrorKind.INVALID
        other = manifests(tmp_path, job(**JOB), workspace(), config_map(rows=ROWS[:9]))
        with pytest.raises(BackendError, match="other data than tiny-data/rows.jsonl now"):
            await backend.apply(other)
        with urllib.request.urlopen(f"{endpoint}/models", timeout=300) as response:
            assert response.status == 200
    finally:
        await backend.close()
    assert await backend.endpoint(served) is None
    assert (await backend.get(served))["status"]["phase"] == "Stopped"


async def test_a_job_is_stopped_and_can_be_deleted(tmp_path):
    backend = LocalBackend(tmp_path / "work")
    try:
        tiny, served = await backend.apply(manifests(tmp_path, job(suspend=True), workspace(replicas=0), config_map()))
        await backend.suspend(tiny, False)
        async with asyncio.timeout(300), aclosing(backend.watch(tiny)) as changes:
            async for item in changes:
                if item.get("status", {}).get("attempts", {}).get("prepare"):
                    break
        await backend.suspend(tiny)
        status = (await backend.get(tiny))["status"]
        assert status["phase"] == "Pending"
        await backend.delete(tiny)
        assert not list(object_folder(tmp_path / "work", "default", "tiny").glob("*job*"))
        assert (await backend.get(served))["status"]["phase"] == "Stopped"
    finally:
        await backend.close()


async def test_a_job_that_another_process_holds_is_not_deleted(tmp_path):
    backend = LocalBackend(tmp_path / "work")
    try:
        (tiny,) = await backend.apply(manifests(tmp_path, job(suspend=True), config_map()))
        await until(backend, tiny, "Pending")
        await backend.close()
        with locked(object_folder(tmp_path / "work", "default", "tiny")):
            with pytest.raises(BackendError, match="in use by another tunesmith"):
                await backend.delete(tiny)
            assert await backend.get(tiny)
        await backend.delete(tiny)
        assert await backend.list("FineTuneJob") == []
    finally:
        await backend.close()


async def test_a_moved_manifest_means_other_files(tmp_path):
    backend = LocalBackend(tmp_path / "work")
    data = {"sources": [{"uri": "./rows.jsonl"}]}
    try:
        for folder in ("here", "there"):
            (tmp_path / folder).mkdir()
        (tiny,) = await backend.apply(manifests(tmp_path / "here", job(suspend=True, dataset=data)))
        before = await backend.get(tiny)
        with pytest.raises(BackendError, match="dataset.sources cannot change"):
            await backend.apply(manifests(tmp_path / "there", job(suspend=True, dataset=data)))
        assert (await backend.get(tiny))["spec"] == before["spec"]
    finally:
        await backend.close()
