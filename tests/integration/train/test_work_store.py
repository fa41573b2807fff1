"""Stages that share no folder: each finds under a prefix of an object store what the others have left there."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.object_store import ObjectStore
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.storage.work_store import MARKER, WORK_URI, WorkStore, work_store
from tunesmith_trainer.train.checkpointing.checkpoints import damage, seal
from tunesmith_trainer.train.checkpointing.uploads import StoredCheckpoints

PREFIX = "work/jobs/tiny"
STEPS = 200  # more than are done before what is kept of the first ones is seen in the store


def store_in(folder: Path) -> WorkStore:
    folder.mkdir(exist_ok=True)
    return WorkStore(f"s3://{PREFIX}", WorkFolder(folder))


def written(folder: Path, files: dict[str, bytes]) -> dict[str, Path]:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return {name: folder / name for name in files}


def test_a_snapshot_comes_back_whole(object_store: ObjectStore, tmp_path: Path) -> None:
    here, there = store_in(tmp_path / "here"), store_in(tmp_path / "there")
    files = written(here.work.root, {"prepare/stage.json": b"{}", "prepare/data/rows": b"rows" * 1000})
    assert not there.download_snapshot("prepare")
    here.upload_files("prepare", files)
    assert object_store.order[-1] == f"{PREFIX}/prepare/{MARKER}", "the marker is last"
    assert there.download_snapshot("prepare")
    assert {name: (there.work.root / name).read_bytes() for name in files} == {
        name: path.read_bytes() for name, path in files.items()
    }
    assert [path.name for path in here.work.root.iterdir()] == ["prepare"], "something is left of the upload"
    count = len(object_store.order)
    here.upload_files("prepare", files)
    assert len(object_store.order) == count, "what is there is not written again"


def test_one_without_its_marker_is_none(object_store: ObjectStore, tmp_path: Path) -> None:
    store = store_in(tmp_path / "here")
    store.upload_files("train", written(store.work.root, {"train/stage.json": b"{}"}))
    del object_store.objects[f"{PREFIX}/train/{MARKER}"]
    assert not store.download_snapshot("train")
    assert store.snapshots() == []


def test_other_content_than_was_written_is_named(object_store: ObjectStore, tmp_path: Path) -> None:
    store = store_in(tmp_path / "here")
    store.upload_files("prepare", written(store.work.root, {"prepare/data/rows": b"rows"}))
    object_store.objects[f"{PREFIX}/prepare/prepare/data/rows"] = b"sows"
    there = store_in(tmp_path / "there")
    with pytest.raises(StageError, match="prepare/data/rows has other content than was written") as caught:
        there.download_snapshot("prepare")
    assert caught.value.reason is Reason.OUTPUT_FAILED
    assert not (there.work.root / "prepare/data/rows").exists()


def test_a_damaged_checkpoint_is_passed_over(
    object_store: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_in(tmp_path / "here")
    for step in (9, 10):
        folder = store.work.checkpoints / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "model.bin").write_bytes(b"%d" % step)
        seal(folder, {})
        store.upload_files(
            folder.name, {path.relative_to(store.work.root).as_posix(): path for path in folder.iterdir()}
        )
    assert StoredCheckpoints(store).steps() == [9, 10]
    object_store.objects[f"{PREFIX}/checkpoint-10/train/checkpoints/checkpoint-10/model.bin"] = b"20"
    there = store_in(tmp_path / "there")
    StoredCheckpoints(there).download()
    assert [path.name for path in there.work.checkpoints.iterdir()] == ["checkpoint-9"]
    assert "checkpoint-10 cannot be used" in caplog.text
    StoredCheckpoints(store).remove_old(keep=1)
    assert StoredCheckpoints(store).steps() == [10]


def test_a_checkpoint_of_several_machines_is_all_its_parts(object_store: ObjectStore, tmp_path: Path) -> None:
    stores = [store_in(tmp_path / f"machine-{n}") for n in range(2)]
    kept = [StoredCheckpoints(store, n, 2) for n, store in enumerate(stores)]

    def keep(step: int, *machines: int) -> None:
        for n in machines:
            folder = stores[n].work.checkpoints / f"checkpoint-{step}"
            written(folder, {f"rank-{n}.bin": b"%d" % n})
            seal(folder, {}, n, 2)
            files = {path.relative_to(stores[n].work.root).as_posix(): path for path in folder.iterdir()}
            stores[n].upload_files(f"checkpoint-{step}" + (".1" if n else ""), files)

    keep(10, 0, 1)
    keep(20, 0, 1)
    keep(30, 0)
    keep(40, 1)
    assert [checkpoints.steps() for checkpoints in kept] == [[10, 20], [10, 20]]
    assert [checkpoints.newest_shard() for checkpoints in kept] == [30, 40]
    for checkpoints in kept:  # the first looks after all
        checkpoints.remove_old(keep=1)
    assert stores[0].snapshots() == ["checkpoint-20", "checkpoint-20.1", "checkpoint-30", "checkpoint-40.1"]
    there = store_in(tmp_path / "there")
    StoredCheckpoints(there, 1, 2).download()
    (checkpoint,) = there.work.checkpoints.iterdir()
    assert {path.name for path in checkpoint.iterdir()} == {
        "rank-0.bin", "rank-1.bin", "complete.json", "complete-1.json",
    }  # fmt: skip
    (checkpoint / "complete-1.json").unlink()
    assert damage(checkpoint) == "complete-1.json is missing"
    kept[1].remove_all()
    assert stores[0].snapshots() == ["checkpoint-20", "checkpoint-30"]


def test_a_store_that_cannot_be_read_now_can_be_tried_again(object_store: ObjectStore, tmp_path: Path) -> None:
    object_store.status = 503
    with pytest.raises(StageError) as caught:
        store_in(tmp_path / "here").download(Stage.TRAIN)
    assert caught.value.reason is Reason.SOURCE_UNAVAILABLE


def test_no_variable_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORK_URI, raising=False)
    assert work_store(WorkFolder(tmp_path)) is None


ROWS = [{"prompt": f"What is {n}?", "completion": f"{n} is number {n}. " * (1 + n % 5)} for n in range(60)]


def job_config(data: Path) -> str:
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    sizes = {"hiddenSize": 64, "intermediateSize": 128, "numHiddenLayers": 2, "vocabSize": 384}
    spec = {
        "model": {"scratch": {**sizes, "maxPositionEmbeddings": 256}},
        "dataset": {"sources": [{"uri": str(data)}], "validation": {"fraction": 0.1}},
        "training": {
            "maxSteps": STEPS, "globalBatchSize": 8, "learningRate": 0.005, "maxLength": 128,
            "checkpoint": {"everySteps": 20},
        },
        "distributed": {"numProcPerNode": 1},
        "evaluation": {"maxRows": 4, "maxNewTokens": 4},
        "export": {
            "precisions": ["fp32"], "parity": {"rows": 4, "minNextTokenAgreement": 0.2, "maxPerplexityIncrease": 5},
        },
    }  # fmt: skip
    return json.dumps({"name": "tiny", "spec": spec})


class Pods:
    """Attempts at stages, each in an empty folder of its own, as pods without a volume have it."""

    def __init__(self, folder: Path, config: str, store: str | None) -> None:
        self.folder, self.store, self.count = folder, store, 0
        self.env = {**os.environ, "TUNESMITH_JOB_CONFIG": config, "CUDA_VISIBLE_DEVICES": ""}
        if store:
            self.env[WORK_URI] = store

    def start(self, stage: str, *options: str) -> tuple[subprocess.Popen[str], Path]:
        self.count += 1
        work = self.folder / (f"pod-{self.count}" if self.store else "work")
        words = self.folder / f"words-{self.count}.json"
        command = [sys.executable, "-m", "tunesmith_trainer", stage, "--work", str(work), *options]
        env = {**self.env, "TUNESMITH_TERMINATION_LOG": str(words)}
        return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True), words

    def finish(self, stage: str) -> tuple[dict[str, Any], str]:
        process, words = self.start(stage)
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
        return json.loads(words.read_text())["result"], errors


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not holds():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_and_told_to_stop_it_ends_in_the_same_artifact(object_store: ObjectStore, tmp_path: Path) -> None:
    config = job_config(tmp_path / "rows.jsonl")
    (tmp_path / "undisturbed").mkdir()
    undisturbed = Pods(tmp_path / "undisturbed", config, None)
    for stage in Stage:
        expected, _ = undisturbed.finish(stage.value)

    (tmp_path / "pods").mkdir()
    pods = Pods(tmp_path / "pods", config, f"s3://{PREFIX}")
    assert set(pods.finish("prepare")[0]["measured"]) == {"memory", "seconds"}
    store = store_in(tmp_path / "look")

    process, _ = pods.start("train")
    wait_until(lambda: bool(StoredCheckpoints(store).steps()), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    first = StoredCheckpoints(store).steps()[-1]

    process, _ = pods.start("train")
    work = tmp_path / "pods" / f"pod-{pods.count}"
    wait_until((work / "train" / "checkpoints" / f"checkpoint-{first + 20}").exists, process)
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 66, errors
    assert f"going on from checkpoint-{first}" in errors
    stopped = StoredCheckpoints(store).steps()[-1]
    assert stopped > first, "the checkpoint that the signal made is kept"

    result, errors = pods.finish("train")
    assert f"going on from checkpoint-{stopped}" in errors
    assert result["progress"]["step"] == STEPS
    attempts = json.loads((tmp_path / "pods" / f"pod-{pods.count}/train/attempts.json").read_text())
    assert attempts["attempts"] >= 2, "what earlier attempts have measured is uploaded with their checkpoints"
    assert store.snapshots() == ["prepare", "train"], "checkpoints are of no use any more"
    found, _ = pods.finish("publish")
    assert found["artifact"]["uri"] == f"s3://{PREFIX}/artifact"
    manifest = json.loads(object_store.objects[f"{PREFIX}/artifact/manifest.json"])
    alone = json.loads((Path(expected["artifact"]["uri"]) / "manifest.json").read_text())
    for files in (manifest["files"], alone["files"]):
        del files["training_log.jsonl"]  # times are in it
    assert manifest["files"] == alone["files"]
    # Run again, by a Job whose pod was removed before it was read, it finds its work done.
    again, errors = pods.finish("publish")
    assert "publish is complete already" in errors
    assert again == found


@pytest.mark.long  # tests/e2e/cluster/test_object_store.py does so with pods
@pytest.mark.slow
def test_machines_without_a_common_folder_go_on_together(object_store: ObjectStore, tmp_path: Path, port: int) -> None:
    job = json.loads(job_config(tmp_path / "rows.jsonl"))
    # Rounding, which differs with the number of processes, adds up at higher rates.
    job["spec"]["training"]["learningRate"] = 0.0002
    config = json.dumps(job)
    pods = Pods(tmp_path / "pods", config, f"s3://{PREFIX}")
    pods.env["GLOO_SOCKET_IFNAME"] = "lo"  # the machines of this test are one, whose name need not resolve
    pods.folder.mkdir()
    pods.finish("prepare")
    store = store_in(tmp_path / "look")
    kept = StoredCheckpoints(store, 0, 2)

    def machines() -> list[subprocess.Popen[str]]:
        meet = ["--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(port)]
        return [pods.start("train", *meet, "--node-rank", str(n))[0] for n in range(2)]

    first, second = machines()
    wait_until(lambda: bool(kept.steps()), first)
    second.kill()
    assert first.wait(300) == 67, first.communicate()[1][-3000:]
    step = kept.steps()[-1]

    first, second = machines()
    errors = [process.communicate(timeout=300)[1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), errors
    assert f"going on from checkpoint-{step}" in errors[0]
    assert store.snapshots() == ["prepare", "train"]

    (tmp_path / "alone").mkdir()
    alone = Pods(tmp_path / "alone", config, None)
    for stage in ("prepare", "train"):
        alone.finish(stage)
    expected = losses((tmp_path / "alone/work/train/training_log.jsonl").read_bytes())
    found = losses(object_store.objects[f"{PREFIX}/train/train/training_log.jsonl"])
    assert len(found) == STEPS
    assert found == pytest.approx(expected, rel=5e-4)


def losses(log: bytes) -> list[float]:
    return [json.loads(line)["loss"] for line in log.splitlines() if b'"loss"' in line]
