"""Adapters of a list are copied as it changes, and the server's list says where they are."""

import json
import time
import uuid
from pathlib import Path

import fsspec
import pytest

from support.object_store import ObjectStore
from tunesmith_trainer.storage.follow import Follower


def published(content: bytes = b"weights", *, complete: bool = True) -> str:
    """Write an adapter into a store, and return its URI."""
    uri = f"memory://{uuid.uuid4().hex}/artifact"
    fs = fsspec.filesystem("memory")
    fs.pipe(f"{uri}/adapter/adapter_model.safetensors", content)
    if complete:
        fs.pipe(f"{uri}/manifest.json", b"{}")
    return uri


class World:
    def __init__(self, folder: Path) -> None:
        self.list, self.copies, self.secrets = folder / "list.json", folder / "copies", folder / "secrets"
        self.follower = Follower(self.list, self.copies, self.secrets)
        self.version = 0

    def write(self, *entries: dict) -> None:
        self.version += 1
        self.list.write_text(json.dumps({"version": str(self.version), "adapters": entries}))

    def read(self, until=lambda entries: True) -> list[dict]:
        """Follow until the server's list is as wanted; return its entries."""
        deadline = time.monotonic() + 300
        while True:
            self.follower.step()
            there = self.copies / "adapters.json"
            content = json.loads(there.read_text()) if there.exists() else {"version": None, "adapters": []}
            if content["version"] == str(self.version) and until(content["adapters"]):
                return content["adapters"]
            assert time.monotonic() < deadline, content
            time.sleep(0.01)


@pytest.fixture
def world(tmp_path):
    found = World(tmp_path)
    yield found
    found.follower.close()


def has_path(entries):
    return all("path" in entry for entry in entries)


def test_it_copies_what_comes_and_removes_what_goes(world):
    world.follower.step()
    assert not (world.copies / "adapters.json").exists(), "without a list nothing is told"
    world.write({"name": "a", "path": published(b"one"), "digest": "sha256:1"}, {"name": "b", "path": "/claim/b"})
    first, second = world.read(has_path)
    assert (Path(first["path"]) / "adapter/adapter_model.safetensors").read_bytes() == b"one"
    assert (first["digest"], second) == ("sha256:1", {"name": "b", "path": "/claim/b"})
    world.write({"name": "c", "path": published(b"two")})
    (third,) = world.read(has_path)
    assert (Path(third["path"]) / "adapter/adapter_model.safetensors").read_bytes() == b"two"
    assert not Path(first["path"]).exists()
    world.list.unlink()
    assert world.read() == [third], "a list that is absent for a moment removes nothing"
    world.write()
    assert world.read() == []


def test_one_that_fails_does_not_hold_the_others_and_is_tried_again(world, monkeypatch):
    monkeypatch.setattr("tunesmith_trainer.storage.follow._FIRST_WAIT", 0.0)
    late = published(complete=False)
    world.write({"name": "late", "path": late}, {"name": "a", "path": published()})
    entries = world.read(lambda entries: "error" in entries[0] and "path" in entries[1])
    assert "manifest.json is missing" in entries[0]["error"]
    fsspec.filesystem("memory").pipe(f"{late}/manifest.json", b"{}")
    assert world.read(has_path)


def test_credentials_are_those_of_the_named_secret(world, monkeypatch):
    with ObjectStore().serving() as store:
        store.objects |= {"b/a/manifest.json": b"{}", "b/a/adapter/x": b"x"}
        # The endpoint is a variable as good as any to see which ones the copying process has.
        secret = world.secrets / "theirs"
        secret.mkdir(parents=True)
        variables = {"AWS_ENDPOINT_URL": store.endpoint, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        for name, value in variables.items():
            (secret / name).write_text(value)
            monkeypatch.delenv(name, raising=False)
        world.write({"name": "a", "path": "s3://b/a", "secret": "theirs"})
        (entry,) = world.read(lambda entries: entries[0].keys() & {"path", "error"})
        assert (Path(entry["path"]) / "adapter/x").read_bytes() == b"x"
