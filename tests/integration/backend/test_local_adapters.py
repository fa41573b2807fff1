"""A server on this machine gets the adapters of jobs that are run while it serves."""

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.lora_artifacts import make_adapter, make_base
from support.manifests import workspace
from tunesmith_api import status as state
from tunesmith_api.manifests import load_manifests
from tunesmith_backend.interface.protocol import ObjectRef
from tunesmith_backend.local.backend import LocalBackend
from tunesmith_backend.local.objects import ObjectFolder, Stored
from tunesmith_backend.local.store import StatusFile

pytestmark = pytest.mark.asyncio

FOLLOWING = {"matchLabels": {"base": "support"}}


def digest_of(artifact: Path) -> str:
    return str(json.loads((artifact / "manifest.json").read_bytes())["digest"])


def succeed(root: Path, name: str, adapter: Path, base: Path) -> None:
    """Leave what `tunesmith run` of a job with export.adapterOnly leaves."""
    ref = ObjectRef("FineTuneJob", name)
    spec = {"model": {"scratch": {}}, "method": "lora", "dataset": {"sources": [{"uri": "./rows.jsonl"}]}}
    metadata = {"name": name, "namespace": "default", "labels": FOLLOWING["matchLabels"]}
    objects = ObjectFolder(root)
    objects.put(ref, Stored(root, {"kind": "FineTuneJob", "metadata": metadata, "spec": spec}))
    artifact = {
        "uri": str(adapter),
        "digest": digest_of(adapter),
        "base": {"uri": str(base), "digest": digest_of(base)},
    }
    StatusFile(objects.folder(ref), "FineTuneJob").write(state.completed(state.accepted({}), artifact, {}))


def answer(endpoint: str, model: str) -> str:
    body = {"model": model, "prompt": "What is tune?", "max_tokens": 8, "temperature": 0}
    request = urllib.request.Request(
        f"{endpoint}/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as response:
        return str(json.load(response)["choices"][0]["text"])


async def until(backend: LocalBackend, ref: ObjectRef, **states: str) -> dict[str, Any]:
    """Wait until a workspace serves and its adapters have these states; return its status."""
    async with asyncio.timeout(300):
        while True:
            status: dict[str, Any] = (await backend.get(ref)).get("status") or {}
            found = {item["name"]: item["state"] for item in status.get("adapters") or ()}
            if status.get("phase") == "Serving" and found == states:
                return status
            assert status.get("phase") not in ("Failed", "Blocked"), status
            await asyncio.sleep(0.1)


async def test_adapters_come_and_go_while_it_serves(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    made = {name: make_adapter(tmp_path / name, base, name=name, seed=seed) for seed, name in ((1, "one"), (2, "two"))}
    root = tmp_path / "work"
    backend = LocalBackend(root)
    manifest = tmp_path / "all.yaml"
    spec = {"model": {"uri": str(base)}, "adapterSelector": FOLLOWING}
    manifest.write_text(yaml.safe_dump(workspace("support", **spec)))
    try:
        (ref,) = await backend.apply(load_manifests([manifest]))
        await until(backend, ref)
        endpoint = str(await backend.endpoint(ref))
        plain = answer(endpoint, "support")
        succeed(root, "first", made["one"], base)
        await until(backend, ref, first="Loaded")
        succeed(root, "second", made["two"], base)
        damaged = make_adapter(tmp_path / "damaged", base, seed=3)
        weights = damaged / "adapter" / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
        succeed(root, "third", damaged, base)
        status = await until(backend, ref, first="Loaded", second="Loaded", third="Failed")
        conditions = {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}
        assert conditions["AdaptersReady"] == ("False", "AdapterFailed")
        assert conditions["Ready"] == ("True", "Serving")
        assert len({plain, answer(endpoint, "first"), answer(endpoint, "second")}) == 3
        with urllib.request.urlopen(f"{endpoint}/models", timeout=300) as response:
            assert {item["id"] for item in json.load(response)["data"]} == {"support", "first", "second"}
        for name in ("second", "third"):
            ObjectFolder(root).delete(ObjectRef("FineTuneJob", name))
        status = await until(backend, ref, first="Loaded")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            answer(endpoint, "second")
    finally:
        await backend.close()
