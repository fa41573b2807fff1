"""A model's configuration from each kind of place, by real HTTP and a real client of object stores."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hub_mirror import HubMirror
from support.object_store import ObjectStore
from tunesmith_api.spec import ModelSpec
from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.plan import model_config as module
from tunesmith_backend.plan.model_config import model_config

CONFIG = {"model_type": "llama", "hidden_size": 64}
URI = "hf://acme/tiny"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubMirror]:
    folder = tmp_path / "hub" / "acme" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(bytes(1 << 20))
    with HubMirror(tmp_path / "hub").serving() as mirror:
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "no-home"))
        monkeypatch.setenv("HF_ENDPOINT", mirror.endpoint)
        yield mirror


def refused(uri: str, revision: str | None = None) -> BackendError:
    with pytest.raises(BackendError) as caught:
        model_config(ModelSpec(uri=uri, revision=revision))
    return caught.value


def test_of_the_hub_one_small_file_is_downloaded(mirror: HubMirror) -> None:
    assert model_config(ModelSpec(uri=URI, revision="v1")) == CONFIG
    assert mirror.requests == ["GET /acme/tiny/resolve/v1/config.json"]


def test_the_users_token_is_sent(mirror: HubMirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.token = "secret"
    assert "HF_TOKEN" in str(refused(URI))
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert model_config(ModelSpec(uri=URI)) == CONFIG
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").write_text("secret\n")
    assert model_config(ModelSpec(uri=URI)) == CONFIG
    mirror.gated = True
    assert "accept the model's terms" in str(refused(URI))


def test_what_the_hub_does_not_have(mirror: HubMirror) -> None:
    assert "correct spec.model.uri" in str(refused("hf://acme/other"))
    assert "spec.model.revision" in str(refused(URI, "v9"))
    (mirror.folder / "acme/tiny/config.json").unlink()
    assert "has no config.json" in str(refused(URI))


def test_a_hub_that_is_down_can_be_tried_again(mirror: HubMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.status = 503
    assert refused(URI).kind is ErrorKind.RETRY
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert refused(URI).kind is ErrorKind.RETRY
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in str(refused(URI))


def test_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert model_config(ModelSpec(uri=str(tmp_path))) == CONFIG
    assert model_config(ModelSpec(uri=f"file://{tmp_path}")) == CONFIG
    (tmp_path / "config.json").write_text("[1]")
    assert "not a JSON object" in str(refused(str(tmp_path)))
    (tmp_path / "config.json").write_text("{")
    assert "not JSON" in str(refused(str(tmp_path)))
    assert "no such file" in str(refused(str(tmp_path / "absent")))


def test_of_an_object_store(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    object_store.objects["models/tiny/config.json"] = json.dumps(CONFIG).encode()
    assert model_config(ModelSpec(uri="s3://models/tiny/")) == CONFIG
    absent = refused("s3://models/other")
    assert "s3://models/other/config.json: no such file" in str(absent)
    assert absent.kind is ErrorKind.INVALID
    object_store.status = 503
    assert refused("s3://models/tiny").kind is ErrorKind.RETRY
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert "pip install" in str(refused("s3://models/tiny"))
