"""The linear layers of a decoder that LoRA adapts, by the names that an exported graph gives to its inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import LORA
from tunesmith_trainer.storage.files import read_json, write_json

_LAYER = re.compile(r"(?:^|\.)layers\.(?P<layer>\d+)\.(?:self_attn|mlp)\.(?P<part>\w+)$")

MAX_RANK = 2048
"""Largest rank that a graph takes: twice that of `spec.adapter.rank`, as of an adapter that began as PiSSA or OLoRA."""


@dataclass(frozen=True)
class LoraModule:
    """A linear layer that can have an adapter.

    Attributes:
        layer: The decoder layer.
        part: Its name there, such as `q_proj`.
        inputs: Features that go in.
        outputs: Features that come out.
    """

    layer: int
    part: str
    inputs: int
    outputs: int

    @property
    def name(self) -> str:
        """Its name in lora.json and in the graph's inputs."""
        return f"{self.layer}.{self.part}"


def module_name(layer: str) -> str | None:
    """Return the name of a linear layer in lora.json; None if it is in no decoder layer.

    Args:
        layer: Its full name in transformers, such as `model.layers.3.self_attn.q_proj`.
    """
    found = _LAYER.search(layer)
    return f"{found['layer']}.{found['part']}" if found else None


def lora_modules(layers: Mapping[str, tuple[int, int]]) -> list[LoraModule]:
    """Return the modules of a model's linear layers, in their order.

    Args:
        layers: Inputs and outputs by full names, as `linear_layers` gives them.

    Raises:
        ValueError: A layer is in no decoder layer.
    """
    modules = []
    for full, (inputs, outputs) in layers.items():
        name = module_name(full)
        if name is None:
            raise ValueError(f"the linear layer {full} is in no decoder layer")
        layer, _, part = name.partition(".")
        modules.append(LoraModule(int(layer), part, inputs, outputs))
    return modules


def modules_of(folder: Path) -> list[LoraModule]:
    """Return the modules of a model in the transformers layout; its weights are not read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from tunesmith_trainer.models.linears import linear_layers

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
    return lora_modules(linear_layers(model))


def write_modules(folder: Path, modules: list[LoraModule]) -> None:
    """Write lora.json beside a graph."""
    entries = [{"name": module.name, "in": module.inputs, "out": module.outputs} for module in modules]
    write_json(folder / LORA, {"modules": entries, "maxRank": MAX_RANK})


def read_modules(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inputs and outputs of each module that a graph takes an adapter for, by its name; empty if it takes none.

    Args:
        folder: The export.
    """
    found: dict[str, Any] = read_json(folder / LORA) or {}
    return {entry["name"]: (int(entry["in"]), int(entry["out"])) for entry in found.get("modules", [])}
