"""An adapter in an object store is copied, verified and kept without its copy."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from cluster import binaries
from support.lora_variants import digest_of, random_adapter
from support.s3_server import BUCKET, s3_server
from support.serving_process import wait_until
from support.tiny_models import write_manifest
from tunesmith_serving.engines.text_generation.adapters.loading import LoraBase
from tunesmith_serving.engines.text_generation.adapters.modules import LoraModule, LoraModules
from tunesmith_serving.engines.text_generation.adapters.store import AdapterStore
from tunesmith_serving.engines.text_generation.adapters.watching import AdapterWatcher


def adapter_and_base(folder: Path) -> tuple[Path, LoraBase]:
    """An adapter with random numbers, and what it fits."""
    path = folder / "base"
    (path / "onnx" / "fp32").mkdir(parents=True)
    entry = {"name": "0.q_proj", "in": 3, "out": 5}
    (path / "onnx" / "fp32" / "lora.json").write_text(json.dumps({"modules": [entry], "maxRank": 8}))
    write_manifest(path, task="textGeneration", chatTemplate=None)
    adapter = random_adapter(path, folder / "mine", 2, 1)
    return adapter, LoraBase("base", digest_of(path), None, LoraModules((LoraModule("0.q_proj", 3, 5),), 8))


def test_an_adapter_that_could_not_be_read_is_loaded_again(tmp_path: Path) -> None:
    """While it was served: the list has not changed, and the file may be sound again."""
    adapter, base = adapter_and_base(tmp_path)
    listed, store = tmp_path / "list.json", AdapterStore()
    listed.write_text(json.dumps({"adapters": [{"name": "mine", "path": str(adapter)}]}))
    watcher = AdapterWatcher(listed, store, base, "base")
    try:
        assert watcher.settle(60)
        first = store.get("mine")
        assert first is not None
        store.fail(first, "it cannot be read")
        wait_until(lambda: store.get("mine") is not None)
    finally:
        watcher.close()
    assert store.get("mine") is not first
    assert store.states()["mine"].state == "Loaded"


def test_an_adapter_in_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not binaries.object_store().exists():
        pytest.skip("the object store is not built: make test-kubernetes")
    adapter, base = adapter_and_base(tmp_path)
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    listed = tmp_path / "list.json"
    uri = f"s3://{BUCKET}/adapters/mine"
    paths = {"mine": uri, "gone": f"{uri}-2"}
    listed.write_text(json.dumps({"adapters": [{"name": name, "path": path} for name, path in paths.items()]}))
    with s3_server(tmp_path / "s3", "127.0.0.1") as server:
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        shutil.copytree(adapter, server.folder / "adapters" / "mine")
        store = AdapterStore()
        watcher = AdapterWatcher(listed, store, base, "base")
        try:
            assert watcher.settle(120)
        finally:
            watcher.close()
    (loaded,) = store.loaded()
    assert (loaded.name, loaded.source, loaded.digest) == ("mine", uri, digest_of(adapter))
    assert "no complete artifact" in store.states()["gone"].message
    assert list((tmp_path / "copies").iterdir()) == []
    loaded.weights.check_numbers()  # it can still be read
