"""More adapters from one of `lora_artifacts.make_adapter`, without loading a model for each."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from support.tiny_models import write_manifest

KEPT = ("kind", "task", "base", "chatTemplate")


def variant(source: Path, target: Path, seed: int = 0, *, config: dict[str, Any] | None = None, **fields: Any) -> Path:
    """A copy at `target` with other numbers, other settings in adapter_config.json, and other fields of the manifest.

    Args:
        source: The adapter's artifact.
        target: The new one, whose name is the artifact's.
        seed: Draws the numbers; 0 leaves them as they are.
        config: Settings.
        fields: Fields of the manifest.
    """
    from safetensors.numpy import load_file, save_file

    shutil.copytree(source / "adapter", target / "adapter")
    if seed:
        draw = np.random.default_rng(seed)
        path = target / "adapter" / "adapter_model.safetensors"
        weights = {name: draw.normal(0, 0.1, value.shape) for name, value in load_file(path).items()}
        save_file({name: value.astype(np.float32) for name, value in weights.items()}, path)
    if config:
        path = target / "adapter" / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    manifest = json.loads((source / "manifest.json").read_text())
    return write_manifest(target, target.name, **{**{key: manifest[key] for key in KEPT}, **fields})


def digest_of(artifact: Path) -> str:
    """The digest of an artifact."""
    return str(json.loads((artifact / "manifest.json").read_text())["digest"])
