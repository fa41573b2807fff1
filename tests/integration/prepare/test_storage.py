"""Files and folders by URI: what is copied, in which order, and what is said when it cannot be."""

import hashlib
import os
from pathlib import Path

import pytest

from support.object_store import ObjectStore
from support.prepare_runs import read_result, write_job, write_rows
from support.tiny_models import build_model
from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.__main__ import main
from tunesmith_trainer.storage.downloads import CHUNK, fetch_file, fetch_folder, part_of
from tunesmith_trainer.storage.files import sha256_tree
from tunesmith_trainer.storage.filesystems import exists, list_folder, open_source, put_folder
from tunesmith_trainer.storage.uris import public

CONTENT = os.urandom(3 << 20)


@pytest.fixture
def store(object_store: ObjectStore) -> ObjectStore:
    object_store.objects["data/folder/rows.jsonl"] = CONTENT
    return object_store


@pytest.fixture(params=["s3", "http", "file", "path", "memory"])
def uri(request: pytest.FixtureRequest, store: ObjectStore, tmp_path: Path) -> str:
    """The URI of a file with CONTENT, by each protocol."""
    local = tmp_path / "source" / "rows.jsonl"
    local.parent.mkdir()
    local.write_bytes(CONTENT)
    if request.param == "memory":
        import fsspec

        fsspec.filesystem("memory").pipe("/folder/rows.jsonl", CONTENT)
    return {
        "s3": "s3://data/folder/rows.jsonl",
        "http": f"{store.endpoint}/data/folder/rows.jsonl",
        "file": f"file://{local}",
        "path": str(local),
        "memory": "memory://folder/rows.jsonl",
    }[request.param]


def test_a_file_that_has_changed_is_fetched_again(tmp_path: Path) -> None:
    """Of data, which may be corrected after it was refused; of a store that tells versions apart."""
    source, target = tmp_path / "rows.jsonl", tmp_path / "copies" / "rows"
    source.write_bytes(b"old")
    uri = source.as_uri()
    assert fetch_file(uri, target, newest=True).read_bytes() == b"old"
    os.utime(target, (1, 1))
    assert fetch_file(uri, target, newest=True).stat().st_mtime == 1, "it was not fetched again"
    source.write_bytes(b"new!")
    assert fetch_file(uri, target).read_bytes() == b"old"
    assert fetch_file(uri, target, newest=True).read_bytes() == b"new!"


def test_fetch_file(uri: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    digest = hashlib.sha256(CONTENT).hexdigest()
    target = tmp_path / "deep" / "copy"
    fetch_file(uri, target, sha256=digest, report=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in target.parent.iterdir()] == ["copy"]
    with open_source(uri) as file:
        assert file.read() == CONTENT
    with pytest.raises(StageError, match=f"not {'0' * 64}"):
        fetch_file(uri, target, sha256="0" * 64)


def test_file_that_is_not_there(uri: str, tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        fetch_file(uri + "x", tmp_path / "copy", missing=Reason.MODEL_NOT_FOUND)
    assert caught.value.reason is Reason.MODEL_NOT_FOUND
    assert caught.value.message.startswith(f"{uri}x: no such file")
    assert list(tmp_path.glob("*copy*")) == []


@pytest.mark.parametrize("uri", ["s3", "http"], indirect=True)
@pytest.mark.parametrize(
    ("status", "reason", "problem"),
    [
        (403, Reason.INVALID_DATASET, "no permission"),
        (500, Reason.SOURCE_UNAVAILABLE, "cannot read now"),
        (503, Reason.SOURCE_UNAVAILABLE, "cannot read now"),
    ],
)
def test_store_that_refuses(
    uri: str, store: ObjectStore, tmp_path: Path, status: int, reason: Reason, problem: str
) -> None:
    store.status = status
    with pytest.raises(StageError, match=problem) as caught:
        fetch_file(uri, tmp_path / "copy")
    assert caught.value.reason is reason
    assert caught.value.remedy
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("uri", ["s3", "http"], indirect=True)
def test_download_that_breaks_off(uri: str, store: ObjectStore, tmp_path: Path) -> None:
    store.cut = True
    with pytest.raises(StageError) as caught:
        fetch_file(uri, tmp_path / "copy")
    assert caught.value.reason is Reason.SOURCE_UNAVAILABLE
    assert not (tmp_path / "copy").exists()
    store.cut = False
    fetch_file(uri, tmp_path / "copy")
    assert [path.name for path in tmp_path.glob("*copy*")] == ["copy"]
    assert (tmp_path / "copy").read_bytes() == CONTENT


@pytest.mark.parametrize("uri", ["s3", "http", "file"], indirect=True)
def test_only_the_rest_of_the_same_version_is_fetched(uri: str, store: ObjectStore, tmp_path: Path) -> None:
    def interrupted(done: int, _: int | None) -> None:
        raise KeyboardInterrupt

    def seen_of(target: Path) -> list[int]:
        seen: list[int] = []
        fetch_file(uri, target, report=lambda done, _: seen.append(done))
        assert target.read_bytes() == local_content
        return seen

    content = os.urandom(3 * CHUNK)
    local_content = content
    local = tmp_path / "source" / "rows.jsonl"
    store.objects["data/folder/rows.jsonl"] = content
    local.write_bytes(content)
    with pytest.raises(KeyboardInterrupt):
        fetch_file(uri, tmp_path / "a", report=interrupted)
    part = part_of(tmp_path / "a")
    come = part.stat().st_size
    assert 0 < come < len(content)
    kept = {path: path.read_bytes() for path in (part, part.with_name(f"{part.name}.json"))}
    assert seen_of(tmp_path / "a")[0] > come, "it goes on after what had come"
    # Of another version nothing is kept.
    local_content = content[::-1] + b"1"
    store.objects["data/folder/rows.jsonl"] = local_content
    local.write_bytes(local_content)
    (tmp_path / "a").unlink()
    for path, data in kept.items():
        path.write_bytes(data)
    assert seen_of(tmp_path / "a")[0] <= CHUNK


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for uri in ("http://127.0.0.1:9/x", "s3://bucket/x"):
        with pytest.raises(StageError) as caught:
            fetch_file(uri, tmp_path / "copy")
        assert caught.value.reason is Reason.SOURCE_UNAVAILABLE


def make_folder(folder: Path) -> Path:
    for name in ("manifest.json", "a.txt", "onnx/int4/model.onnx", "z.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_put_folder_to_s3_writes_the_manifest_last(store: ObjectStore, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "artifact")
    (folder / "a.txt").write_bytes(CONTENT * 5)
    assert not exists("s3://out/runs/1")
    put_folder(folder, "s3://out/runs/1")
    assert store.order[-1] == "out/runs/1/manifest.json"
    assert exists("s3://out/runs/1")
    assert exists("s3://out/runs/1/manifest.json")
    assert sorted(list_folder("s3://out/runs/1")) == ["a.txt", "manifest.json", "onnx/int4/model.onnx", "z.txt"]
    fetch_folder("s3://out/runs/1", tmp_path / "back")
    assert sha256_tree(tmp_path / "back") == sha256_tree(folder)


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_put_folder_locally(tmp_path: Path, prefix: str) -> None:
    folder = make_folder(tmp_path / "artifact")
    put_folder(folder, f"{prefix}{tmp_path}/out/runs")
    assert sha256_tree(tmp_path / "out" / "runs") == sha256_tree(folder)
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("*") if path.is_file()}
    assert max(times, key=lambda name: times[name]) == "manifest.json"


def test_put_folder_that_fails(store: ObjectStore, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "artifact")
    store.status = 403
    (tmp_path / "file").write_text("")
    for uri in ("s3://out/runs/1", f"{tmp_path}/file/out"):
        with pytest.raises(StageError) as caught:
            put_folder(folder, uri)
        assert caught.value.reason is Reason.OUTPUT_FAILED
        assert caught.value.message.startswith(uri)


def test_unknown_scheme(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="ftp:// is not a known kind of storage") as caught:
        fetch_file("ftp://host/x", tmp_path / "copy")
    assert caught.value.reason is Reason.INVALID_SPEC


def test_signatures_are_not_shown(store: ObjectStore, tmp_path: Path) -> None:
    signed = f"{store.endpoint}/data/absent?sig=secret"
    with pytest.raises(StageError) as caught:
        fetch_file(signed, tmp_path / "copy")
    assert "secret" not in str(caught.value)
    assert public("https://user:pass@host/a?sig=secret") == "https://host/a"


def test_prepare_with_model_and_data_from_elsewhere(store: ObjectStore, tmp_path: Path) -> None:
    model = build_model(tmp_path / "tiny")
    for path in model.iterdir():
        store.objects[f"models/tiny/{path.name}"] = path.read_bytes()
    store.objects["models/tiny/notes/readme.md"] = b"not needed"
    store.objects["data/rows.jsonl"] = write_rows(tmp_path / "rows.jsonl").read_bytes()
    url = f"{store.endpoint}/data/rows.jsonl?sig=secret"
    work = write_job(tmp_path / "work", url, {"uri": "s3://models/tiny/"})
    assert main(["prepare", "--work", str(work)]) == 0
    result = read_result(work)
    assert (result["model"]["path"], result["data"]["rows"]) == ("prepare/model", 40)
    assert result["data"]["sources"][0]["name"] == f"{store.endpoint}/data/rows.jsonl"
    assert sha256_tree(work / "prepare" / "model") == sha256_tree(model)
