"""A trained LoRA adapter as inputs of an exported graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tunesmith_api.artifact import lora_input
from tunesmith_trainer.export.lora.modules import module_name, read_modules
from tunesmith_trainer.methods.adapter import AdapterWeights
from tunesmith_trainer.methods.adapter_file import unfaithful
from tunesmith_trainer.methods.kinds.lora import scaling

LoraInputs = dict[str, npt.NDArray[np.float32]]


def lora_inputs(adapter: Path, exported: Path) -> LoraInputs:
    """Return the inputs that let a graph compute with an adapter: float32 A [1, in, rank] and B [1, rank, out].

    Args:
        adapter: The adapter in peft's layout.
        exported: The export of its base, with lora.json.

    Raises:
        StageError: PARITY_FAILED: the graph takes no adapter for one of its layers, or one of other sizes.
    """
    weights, modules = AdapterWeights(adapter), read_modules(exported)
    found: LoraInputs = {}
    for layer in weights.layers:
        name = module_name(layer)
        down, up = weights.get(layer, "lora_A"), weights.get(layer, "lora_B")
        sizes = (down.shape[1], up.shape[0])
        if name is None or modules.get(name) != sizes:
            raise unfaithful(f"{exported} takes no adapter of {sizes[0]} inputs and {sizes[1]} outputs for {layer}")
        found[lora_input(name, "A")] = np.ascontiguousarray(down.T.numpy())[None]
        found[lora_input(name, "B")] = np.ascontiguousarray((up * scaling(weights, layer)).T.numpy())[None]
    return found
