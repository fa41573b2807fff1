"""An artifact is brought from an object store whole, its manifest last, or with a reason why not."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.object_store import ObjectStore
from tunesmith_api.artifact import SMALLEST
from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.storage.fetch import fetch_artifact

FILES = {
    "manifest.json": b"{}",
    "onnx/int4/model.onnx": b"four",
    "onnx/fp32/model.onnx": b"thirty-two",
    "zzz.jsonl": b"log",
}


@pytest.fixture
def store(object_store: ObjectStore) -> ObjectStore:
    object_store.objects |= {f"models/faq/{name}": data for name, data in FILES.items()}
    return object_store


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tunesmith_trainer.storage", "fetch", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.usefixtures("store")
def test_the_command_fetches_everything(tmp_path: Path) -> None:
    done = run("s3://models/faq", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert files_in(tmp_path) == FILES


@pytest.mark.usefixtures("store")
def test_one_precision(tmp_path: Path) -> None:
    fetch_artifact("s3://models/faq", tmp_path, "int4")
    assert sorted(files_in(tmp_path)) == ["manifest.json", "onnx/int4/model.onnx"]


@pytest.mark.usefixtures("store")
def test_the_precision_that_a_server_takes(tmp_path: Path) -> None:
    fetch_artifact("s3://models/faq", tmp_path, SMALLEST)
    assert sorted(files_in(tmp_path)) == ["manifest.json", "onnx/int4/model.onnx"]


def test_the_manifest_comes_last(store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith_trainer.storage import downloads as storage

    order: list[str] = []
    fetch = storage.fetch_file
    monkeypatch.setattr(storage, "fetch_file", lambda uri, *a, **k: (order.append(uri), fetch(uri, *a, **k)))
    fetch_artifact("s3://models/faq", tmp_path)
    assert len(order) == len(FILES)
    assert order[-1] == "s3://models/faq/manifest.json"


def test_an_incomplete_artifact(store: ObjectStore, tmp_path: Path) -> None:
    del store.objects["models/faq/manifest.json"]
    with pytest.raises(StageError, match="holds no complete artifact") as caught:
        fetch_artifact("s3://models/faq", tmp_path)
    assert caught.value.reason is Reason.MODEL_NOT_FOUND


@pytest.mark.usefixtures("store")
def test_what_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    done = run("s3://models/other", str(tmp_path))
    assert done.returncode == 12
    assert done.stderr.splitlines()[-1].startswith("ModelNotFound: s3://models/other")
    assert "Traceback" not in done.stderr
