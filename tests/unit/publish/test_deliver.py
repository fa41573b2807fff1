import json
import uuid
from pathlib import Path

import fsspec
import pytest

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.publish.artifact import assemble
from tunesmith_trainer.publish.deliver import deliver, output_uri
from tunesmith_trainer.storage import filesystems as storage


def make(folder: Path, content: bytes = b"weights") -> tuple[Path, str]:
    folder.mkdir()
    (folder / "weights").write_bytes(content)
    artifact = folder / "artifact"
    return artifact, assemble(artifact, {"onnx/fp32/model.onnx": folder / "weights"}, {})["digest"]


@pytest.fixture
def memory() -> str:
    return f"memory://{uuid.uuid4().hex}/artifact"


def test_a_local_folder_is_made(tmp_path: Path) -> None:
    artifact, digest = make(tmp_path / "one")
    target = tmp_path / "deep" / "out"
    assert deliver(artifact, digest, str(target)) == str(target)
    assert (target / "onnx/fp32/model.onnx").read_bytes() == b"weights"
    assert json.loads((target / "manifest.json").read_text())["digest"] == digest
    assert list(target.parent.iterdir()) == [target]


def test_a_file_uri_and_an_empty_folder_will_do(tmp_path: Path) -> None:
    artifact, digest = make(tmp_path / "one")
    (tmp_path / "out").mkdir()
    assert deliver(artifact, digest, f"file://{tmp_path}/out") == str(tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("local", [True, False])
def test_the_same_artifact_again_is_done(tmp_path: Path, memory: str, local: bool) -> None:
    uri = str(tmp_path / "out") if local else memory
    artifact, digest = make(tmp_path / "one")
    deliver(artifact, digest, uri)
    assert deliver(artifact, digest, uri) == uri


@pytest.mark.parametrize("local", [True, False])
def test_another_artifact_is_never_overwritten(tmp_path: Path, memory: str, local: bool) -> None:
    uri = str(tmp_path / "out") if local else memory
    deliver(*make(tmp_path / "one"), uri)
    with pytest.raises(StageError, match="another artifact") as caught:
        deliver(*make(tmp_path / "two", b"other"), uri)
    assert caught.value.reason is Reason.OUTPUT_FAILED
    with storage.open_source(f"{uri}/onnx/fp32/model.onnx") as file:
        assert file.read() == b"weights"


def test_a_manifest_that_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text("{")
    with pytest.raises(StageError, match="cannot be read"):
        deliver(*make(tmp_path / "one"), str(tmp_path / "out"))
    assert (tmp_path / "out" / "manifest.json").read_text() == "{"


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(StageError, match="not empty") as caught:
        deliver(*make(tmp_path / "one"), str(tmp_path / "out"))
    assert caught.value.reason is Reason.OUTPUT_FAILED
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_a_path_below_a_file_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError) as caught:
        deliver(*make(tmp_path / "one"), str(tmp_path / "file" / "out"))
    assert caught.value.reason is Reason.OUTPUT_FAILED


def test_what_an_interrupted_local_delivery_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".out.123.tmp").mkdir()
    (tmp_path / ".out.123.tmp" / "part").write_text("")
    deliver(*make(tmp_path / "one"), str(tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "out"]


def test_an_object_store_gets_the_manifest_last_and_a_broken_upload_is_completed(
    tmp_path: Path, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = type(fsspec.filesystem("memory"))
    open_file, written = store.open, []

    def failing(self: object, path: str, mode: str = "rb", **options: object) -> object:
        if mode == "wb":
            name = path.rsplit("/", 1)[-1]
            written.append(name)
            if name == "manifest.json" and written.count(name) == 1:
                raise ConnectionResetError("the network went away")
        return open_file(self, path, mode, **options)

    monkeypatch.setattr(store, "open", failing)
    artifact, digest = make(tmp_path / "one")
    with pytest.raises(StageError) as caught:
        deliver(artifact, digest, memory)
    assert caught.value.reason is Reason.SOURCE_UNAVAILABLE
    assert storage.exists(f"{memory}/onnx/fp32/model.onnx")
    assert not storage.exists(f"{memory}/manifest.json")
    deliver(artifact, digest, memory)
    assert written == ["model.onnx", "manifest.json", "model.onnx", "manifest.json"]
    with storage.open_source(f"{memory}/manifest.json") as file:
        assert json.load(file)["digest"] == digest


def test_the_work_folder_has_a_place_for_it(tmp_path: Path) -> None:
    spec = {"model": {"scratch": {}}, "dataset": {"sources": [{"uri": "./x.jsonl"}]}}
    job = JobConfig.model_validate({"name": "job", "spec": spec})
    assert output_uri(job, WorkFolder(tmp_path)) == str(tmp_path / "artifact")
    job = JobConfig.model_validate({"name": "job", "spec": {**spec, "output": {"uri": "s3://bucket/x"}}})
    assert output_uri(job, WorkFolder(tmp_path)) == "s3://bucket/x"
