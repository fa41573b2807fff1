"""Which changes of a job a work folder allows, and what is said of those that it refuses."""

import json
import os
from hashlib import sha256

import pytest

from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_backend.interface.errors import BackendError
from tunesmith_backend.local.changes import changed_fields, changed_sources
from tunesmith_backend.local.inputs import write_inputs

REF = {"configMapKeyRef": {"name": "data", "key": "rows.jsonl"}}
DATA = {("default", "data"): {"rows.jsonl": b"{}"}}


def config(**sections) -> JobConfig:
    spec = {"model": {"scratch": {}}, "dataset": {"sources": [REF]}, **sections}
    return JobConfig.model_validate({"name": "tiny", "spec": spec})


@pytest.fixture
def work(tmp_path) -> WorkFolder:
    """The folder of a job that was prepared."""
    work = WorkFolder(tmp_path / "work")
    write_inputs(config(), DATA, work, restart=False)
    put(work, "prepare", {"data": {"sources": [{"name": "data/rows.jsonl", "sha256": "x"}]}})
    return work


def put(work, stage, marker=None):
    folder = work.root / stage
    folder.mkdir(exist_ok=True)
    (folder / "inputs.json").write_text("{}")
    if marker is not None:
        (folder / "stage.json").write_text(json.dumps(marker))


def files(work):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in work.root.rglob("*") if path.is_file()}


def refused(work, new, data=DATA) -> str:
    before = files(work)
    with pytest.raises(BackendError) as caught:
        write_inputs(new, data, work, restart=False)
    assert files(work) == before, "something was written"
    return str(caught.value)


def test_before_training_everything_can_change(work):
    write_inputs(config(training={"maxSteps": 3}), DATA, work, restart=False)
    assert (work.root / "prepare" / "stage.json").exists(), "what a stage does about a changed spec it decides itself"
    write_inputs(config(), {("default", "data"): {"rows.jsonl": b"other"}}, work, restart=False)
    assert not (work.root / "prepare").exists(), "changed rows are prepared again"
    assert (work.config_maps / "data" / "rows.jsonl").read_bytes() == b"other"


@pytest.mark.parametrize("stage", ["train", "publish"])
def test_from_training_on_only_what_publish_reads_can_change(work, stage):
    put(work, "train")
    put(work, stage)
    new = config(evaluation={"maxRows": 3}, export={"precisions": []}, output={"uri": "/elsewhere"})
    write_inputs(new, DATA, work, restart=False)
    assert json.loads(work.config.read_text())["spec"]["output"] == {"uri": "/elsewhere"}
    said = refused(work, config(training={"maxSteps": 3, "seed": 9}, method="dora"))
    assert "has begun with another method, training.seed, training.maxSteps; " in said
    assert "write another metadata.name for a new job" in said and "--restart" in said
    said = refused(work, new, {("default", "data"): {"rows.jsonl": b"other"}})
    assert "other data than data/rows.jsonl now" in said
    assert "another metadata.name and output.uri" in said
    write_inputs(config(method="dora"), DATA, work, restart=True)
    assert not (work.root / "train").exists()


def test_after_success_nothing_can_change(work):
    put(work, "train", {})
    put(work, "publish", {"artifact": {"uri": "/a"}})
    write_inputs(config(), DATA, work, restart=False)
    said = refused(work, config(export={"precisions": ["fp32"]}))
    assert "has succeeded, with another export.precisions, and its artifact is never changed" in said


def test_a_file_is_compared_by_its_content(work, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("one")
    digest = sha256(b"one").hexdigest()
    sources = [{"name": str(path), "sha256": digest}, {"name": "s3://b/rows.jsonl", "sha256": "x"}]
    put(work, "prepare", {"data": {"sources": sources}})
    assert changed_sources(work) == []
    path.write_text("one")
    assert changed_sources(work) == []
    path.write_text("two")
    os.utime(path, (0, 0))  # its modification time can be set at will
    assert changed_sources(work) == [str(path)]
    path.unlink()
    assert changed_sources(work) == [], "whether a file that is gone has changed cannot be known"


def test_a_configuration_of_another_version_counts_as_changed(work):
    put(work, "train")
    work.config.write_text('{"name": "tiny", "spec": {"unknown": 1}}')
    assert "has begun with another spec" in refused(work, config())


def test_changed_fields_are_named_in_full():
    before = {"a": {"b": 1, "c": [1]}, "d": 1, "same": {}}
    after = {"a": {"b": 2, "c": [1, 2]}, "e": {"f": 1}, "same": {}}
    assert changed_fields(before, after) == ["a.b", "a.c", "d", "e"]
