"""Adapters that are made without loading a model: copies of one with changes, and random ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from support.tiny_models import write_manifest

MLP = ("gate_proj", "up_proj", "down_proj", "gate_up_proj")
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


def random_adapter(base: Path, target: Path, rank: int, seed: int) -> Path:
    """An adapter of all modules of a base's first precision, small enough that the model still makes sense."""
    from safetensors.numpy import save_file

    manifest = json.loads((base / "manifest.json").read_text())
    modules = json.loads((base / "onnx" / manifest["precisions"][0] / "lora.json").read_text())["modules"]
    draw = np.random.default_rng(seed)
    weights = {}
    for module in modules:
        layer, part = module["name"].split(".")
        name = f"base_model.model.model.layers.{layer}.{'mlp' if part in MLP else 'self_attn'}.{part}.lora_"
        for matrix, shape in (("A", (rank, module["in"])), ("B", (module["out"], rank))):
            weights[f"{name}{matrix}.weight"] = draw.standard_normal(shape, np.float32) * np.float32(0.02)
    (target / "adapter").mkdir(parents=True)
    save_file(weights, target / "adapter" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
    (target / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    about = {"uri": f"../{base.name}", "digest": manifest["digest"]}
    fields = {"kind": "adapter", "task": manifest["task"], "base": about, "chatTemplate": manifest["chatTemplate"]}
    return write_manifest(target, target.name, **fields)


def digest_of(artifact: Path) -> str:
    """The digest of an artifact."""
    return str(json.loads((artifact / "manifest.json").read_text())["digest"])
