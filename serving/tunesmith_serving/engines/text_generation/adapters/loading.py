"""Loading an adapter's artifact: nothing of it is used before all of it is verified."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import ADAPTER, MANIFEST
from tunesmith_serving.artifact.opening import Artifact, read_manifest, verify_digest
from tunesmith_serving.engines.text_generation.adapters.config import read_lora_config
from tunesmith_serving.engines.text_generation.adapters.errors import AdapterError
from tunesmith_serving.engines.text_generation.adapters.modules import LoraModules, read_modules
from tunesmith_serving.engines.text_generation.adapters.tensors import TensorFile
from tunesmith_serving.engines.text_generation.adapters.weights import Adapter, AdapterWeights

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class LoraBase:
    """What an adapter must fit.

    Attributes:
        name: The name that the base has in its manifest.
        digest: The digest of its artifact.
        chat_template: The digest of its chat template.
        modules: The layers that take an adapter.
    """

    name: str
    digest: str | None
    chat_template: str | None
    modules: LoraModules


def lora_base(artifact: Artifact) -> LoraBase:
    """Return what the adapters of a served base must fit.

    Raises:
        ArtifactError: Its lora.json is not what it should be.
    """
    manifest = artifact.manifest
    return LoraBase(artifact.name, manifest.get("digest"), manifest.get("chatTemplate"), read_modules(artifact))


def load_adapter(folder: Path, name: str, base: LoraBase, digest: str = "", source: str = "") -> Adapter:
    """Load an adapter and verify every byte that is used of it.

    Args:
        folder: Its artifact.
        name: What requests call it.
        base: The base that is served.
        digest: The digest that the artifact must have; empty accepts any.
        source: What the list of adapters calls the folder, if something else.

    Raises:
        ServingError: It is damaged, not the one that was asked for, or does not fit the base.
    """
    manifest = read_manifest(folder)
    verify_digest(folder, manifest, digest)
    _check_fit(manifest, base)
    weights = _weights(folder / ADAPTER, base, manifest["files"])
    return Adapter(name, str(manifest.get("digest") or ""), source or str(folder), int(time.time()), weights)


def load_trained(folder: Path, name: str, base: LoraBase) -> Adapter:
    """Load an adapter that is not published yet, and so has no digests: a folder as peft saves it.

    Args:
        folder: The folder.
        name: What requests call it.
        base: The base that is served.

    Raises:
        ServingError: It is damaged, or does not fit the base.
    """
    _check_takes_adapters(base)
    return Adapter(name, "", str(folder), int(time.time()), _weights(folder, base, None))


def _weights(folder: Path, base: LoraBase, files: Mapping[str, Any] | None) -> AdapterWeights:
    """Return the weights of a folder in peft's format, verified against a manifest's files."""
    config = _config(folder, files)
    tensors = TensorFile(folder / WEIGHTS)
    if files is not None:
        _check_digest(folder / WEIGHTS, files, tensors.sha256())
    weights = AdapterWeights(tensors, read_lora_config(config), base.modules)
    weights.check_numbers()
    return weights


def _check_fit(manifest: Mapping[str, Any], base: LoraBase) -> None:
    """Check that an adapter is one, and of this base."""
    if manifest.get("kind") != ADAPTER:
        raise AdapterError(
            f"it is an artifact of the kind {manifest.get('kind') or 'model'}, not an adapter; serve it as a model of "
            "its own, or train it with export: {adapterOnly: true}"
        )
    _check_takes_adapters(base)
    trained_on = manifest.get("base")
    trained_on = trained_on if isinstance(trained_on, dict) else {}
    if trained_on.get("digest") != base.digest:
        raise AdapterError(
            f"it was trained on the base {trained_on.get('uri') or 'unknown'} with {_short(trained_on.get('digest'))}, "
            f"and this server has {base.name} with {_short(base.digest)}; serve it on its own base"
        )
    if manifest.get("chatTemplate") != base.chat_template:
        raise AdapterError(
            f"it was trained with another chat template ({_short(manifest.get('chatTemplate'))}) than the base has "
            f"({_short(base.chat_template)}); train it with the base's, or merge it (export: {{adapterOnly: false}})"
        )


def _check_takes_adapters(base: LoraBase) -> None:
    if not base.modules.modules:
        raise AdapterError(
            f"the base {base.name} was exported without inputs for adapters; serve the base that its job has published "
            "with export: {adapterOnly: true}"
        )


def _config(folder: Path, files: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return adapter_config.json."""
    try:
        content = (folder / CONFIG).read_bytes()
        if files is not None:
            _check_digest(folder / CONFIG, files, hashlib.sha256(content).hexdigest())
        config = json.loads(content)
    except (OSError, ValueError) as error:
        raise AdapterError(f"{folder / CONFIG} cannot be read: {error}; publish the adapter again") from None
    if not isinstance(config, dict):
        raise AdapterError(f"{folder / CONFIG} is not a JSON object; publish the adapter again")
    return config


def _check_digest(path: Path, files: Mapping[str, Any], found: str) -> None:
    entry = files.get(f"{ADAPTER}/{path.name}")
    expected = str(entry.get("sha256") or "") if isinstance(entry, dict) else ""
    if found != expected.removeprefix("sha256:"):
        said = f"says {expected[:12]}..." if expected else "does not list it"
        raise AdapterError(
            f"{path} is damaged: its sha256 is {found[:12]}..., {MANIFEST} {said}; copy or publish the adapter again"
        )


def _short(digest: object) -> str:
    return f"digest {digest[:17]}..." if isinstance(digest, str) and digest else "no digest"
