"""A LoRA adapter as inputs of an exported graph.

An export of a LoRA base in a folder that also holds `adapter/` is computed with that adapter; see `adapter_beside`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_api.artifact import ADAPTER, lora_input
from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.export.lora.modules import module_name, read_modules
from tunesmith_trainer.storage.files import read_json

LoraInputs = dict[str, npt.NDArray[np.float32]]

_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"


def adapter_beside(exported: Path) -> Path | None:
    """Return the adapter that an export is served with; None if it is served alone.

    Args:
        exported: The folder `onnx/PRECISION`.
    """
    adapter = exported.parent.parent / ADAPTER
    return adapter if read_modules(exported) and (adapter / _FILE).is_file() else None


def lora_inputs(adapter: Path, exported: Path) -> LoraInputs:
    """Return the inputs that let a graph compute with an adapter: float32 A [1, in, rank] and B [1, rank, out].

    Args:
        adapter: The adapter in peft's layout.
        exported: The export of its base, with lora.json.

    Raises:
        StageError: PARITY_FAILED: it is no LoRA, or the graph takes none for one of its layers, or one of other sizes.
    """
    from safetensors import safe_open

    scale, modules = _scale(read_json(adapter / "adapter_config.json") or {}), read_modules(exported)
    found: LoraInputs = {}
    with safe_open(adapter / _FILE, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            part = next((part for part in (_A, _B) if name.endswith(part)), None)
            if part is None:
                raise _unfit(f"the adapter's {name} is no matrix of a LoRA")
            layer = name.removeprefix(_PREFIX).removesuffix(part)
            module = module_name(layer) or ""
            values = file.get_tensor(name).astype(np.float32)
            sizes = modules.get(module)
            if sizes is None or values.shape[1 if part == _A else 0] != sizes[0 if part == _A else 1]:
                raise _unfit(f"{exported} takes no adapter of the size {list(values.shape)} for {layer}")
            if part == _B:
                values = values * np.float32(scale)
            found[lora_input(module, "A" if part == _A else "B")] = np.ascontiguousarray(values.T)[None]
    return found


def _scale(config: dict[str, Any]) -> float:
    """Return what the product of A and B is multiplied by."""
    others = [name for name in ("rank_pattern", "alpha_pattern", "use_dora", "modules_to_save") if config.get(name)]
    if config.get("peft_type") != "LORA" or others:
        raise _unfit(f"adapter_config.json describes no plain LoRA: {', '.join(others) or config.get('peft_type')}")
    rank = float(config["r"])
    return float(config["lora_alpha"]) / (rank**0.5 if config.get("use_rslora") else rank)


def _unfit(message: str) -> StageError:
    return StageError(
        Reason.PARITY_FAILED, message, "Write export: {adapterOnly: false}, which merges the adapter into the base"
    )
