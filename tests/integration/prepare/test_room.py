"""Where the artifact goes and whether the disk is large enough is known before training."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.object_store import ObjectStore
from support.prepare_runs import read_outcome, read_result, run_prepare, write_job, write_rows
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import JobConfig
from tunesmith_trainer.__main__ import main
from tunesmith_trainer.storage.probe import probe_output


def config_of(tmp_path: Path, uri: str) -> JobConfig:
    work = write_job(tmp_path / "job", tmp_path / "rows.jsonl", output={"uri": uri})
    return JobConfig.model_validate_json((work / "config.json").read_bytes())


def refused(tmp_path: Path, uri: str) -> StageError:
    with pytest.raises(StageError) as caught:
        probe_output(config_of(tmp_path, uri))
    assert caught.value.reason is Reason.OUTPUT_FAILED
    assert caught.value.remedy
    return caught.value


def test_an_output_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for uri in (str(tmp_path / "a" / "b" / "out"), f"file://{tmp_path}/empty"):
        probe_output(config_of(tmp_path / "jobs", uri))
    assert [path for path in sorted(tmp_path.rglob("*")) if "jobs" not in path.parts] == before


def test_an_output_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("mine")
    assert "is not empty" in refused(tmp_path, str(tmp_path / "thesis")).message
    assert "is a file" in refused(tmp_path, str(tmp_path / "thesis" / "thesis.txt")).message
    assert "cannot write" in refused(tmp_path, str(tmp_path / "thesis" / "thesis.txt" / "out")).message
    (tmp_path / "other").mkdir()
    manifest = tmp_path / "other" / "manifest.json"
    manifest.write_text(json.dumps({"name": "other", "namespace": "default"}))
    assert "holds another artifact" in refused(tmp_path, str(tmp_path / "other")).message
    job = config_of(tmp_path, str(tmp_path / "other"))
    manifest.write_text(json.dumps({"name": job.name, "namespace": job.namespace}))
    probe_output(job)  # this job's own, from an earlier run


def test_prepare_refuses_an_output_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    work = write_job(tmp_path / "work", tmp_path / "no-rows.jsonl", output={"uri": str(tmp_path / "full")})
    assert main(["prepare", "--work", str(work)]) == 20
    assert "is not empty" in read_outcome(work)["message"]


def test_a_store_is_tried_and_left_empty(tmp_path: Path, object_store: ObjectStore) -> None:
    store = object_store
    probe_output(config_of(tmp_path, "s3://out/runs/1"))
    assert list(store.objects.values()) in ([], [b""])  # at most the mark of an empty folder, by Arrow's client
    assert not any("probe" in name for name in store.objects)
    store.status = 403
    assert "s3://out/runs/1" in refused(tmp_path, "s3://out/runs/1").message
    store.status = 503
    with pytest.raises(StageError) as caught:
        probe_output(config_of(tmp_path, "s3://out/runs/1"))
    assert caught.value.reason is Reason.SOURCE_UNAVAILABLE


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk]).returncode:  # noqa: S607
        pytest.skip("a small file system can be mounted by root only")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)  # noqa: S607


def test_a_disk_that_is_too_small_is_known_before_training(tmp_path: Path, small_disk: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl")
    scratch = {"architecture": "llama", "vocabSize": 400, "hiddenSize": 256, "intermediateSize": 512}
    work = write_job(small_disk / "work", rows, {"scratch": scratch}, method="full")
    code, errors = run_prepare(work)
    assert code == 19, errors
    message = read_outcome(work)["message"]
    assert message.startswith(f"{work}: the disk is full: ")
    assert "of 25.2 MB are free, and the job needs" in message
    assert "checkpoints" in message
    assert "int4 export" in message
    assert "storage.size" in read_outcome(work)["remedy"]


def test_a_disk_that_fills_up_is_named(tmp_path: Path, small_disk: Path) -> None:
    work = write_job(small_disk / "work", write_rows(tmp_path / "rows.jsonl"), method="full")
    with (small_disk / "other").open("wb") as other:
        other.write(bytes(25 << 20)[: os.statvfs(small_disk).f_bavail * 4096 - (1 << 16)])
    code, errors = run_prepare(work)
    assert code == 19, errors
    assert "the disk is full: " in errors
    assert "of 25.2 MB are free" in errors


def test_the_estimate_is_near_what_a_job_writes(tmp_path: Path) -> None:
    work = write_job(tmp_path / "work", write_rows(tmp_path / "rows.jsonl"), method="full")
    code, errors = run_prepare(work)
    assert code == 0, errors
    disk = read_result(work)["disk"]
    weights = (work / "prepare" / "model" / "model.safetensors").stat().st_size
    assert disk["trained weights"] == pytest.approx(weights, rel=0.05)
    assert disk["total"] == sum(size for name, size in disk.items() if name != "total")
