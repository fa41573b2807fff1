"""LoRA's matrices that begin as a part of the base weights: PiSSA (arXiv 2404.02948) and OLoRA (arXiv 2406.01775).

Both take the product of the first matrices, B0·A0, away from the base weights, and train these matrices on. Here the
base weights stay as they are, in whatever number format and however they are spread over processes: what the first
matrices give is subtracted from a layer's output, which is the same function. So the trained model is
W + s · (B·A - B0·A0) = W + s · [B, -B0]·[A; A0]: a LoRA of twice the rank beside the original base model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn import functional

from tunesmith_api.spec import AdapterSettings
from tunesmith_trainer.methods.base import START
from tunesmith_trainer.methods.kinds.lora import lora_scale
from tunesmith_trainer.models.weights import WeightFiles, open_safetensors

_EXACT = 512
"""Rows or columns of a weight up to which all of its components are computed."""
_MORE = 16
"""Components computed beyond those that are wanted, for their accuracy."""
_ITERATIONS = 16
"""Rounds of the approximation, as in PiSSA's paper."""


def write_start(base: Path, layers: Iterable[str], adapter: AdapterSettings, file: Path) -> None:
    """Write the first matrices of each layer, float32.

    Args:
        base: Folder of the base model.
        layers: Full names of the layers that get an adapter.
        adapter: The adapter's settings.
        file: The file to write.
    """
    weights, tensors = WeightFiles(base), {}
    first = {"pissa": _principal, "olora": _orthonormal}[adapter.init_lora_weights]
    scale = lora_scale(adapter)
    for layer in layers:
        up, down = first(weights[f"{layer}.weight"].float(), adapter.rank, scale)
        tensors[f"{layer}.lora_A"], tensors[f"{layer}.lora_B"] = down.contiguous(), up.contiguous()
    save_file(tensors, file)


def _principal(weight: torch.Tensor, rank: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return B [out, rank] and A [rank, in] of PiSSA: scale · B·A is the sum of the largest components."""
    if min(weight.shape) <= _EXACT:
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            count = min(rank + _MORE, *weight.shape)
            left, values, columns = torch.svd_lowrank(weight, count, niter=_ITERATIONS)
        right = columns.T
    roots = (values[:rank] / scale).sqrt()
    return left[:, :rank] * roots, roots[:, None] * right[:rank]


def _orthonormal(weight: torch.Tensor, rank: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return B [out, rank] and A [rank, in] of OLoRA: the first columns of Q and rows of R of a QR decomposition.

    Q's first columns depend on the weight's first columns only.
    """
    basis, _ = torch.linalg.qr(weight[:, :rank])
    return basis, basis.T @ weight


class _Subtraction:
    """Subtracts from a layer's output what its first matrices give."""

    def __init__(self, up: torch.Tensor, down: torch.Tensor) -> None:
        """Keep the matrices.

        Args:
            up: s · B0, float32 [out, rank].
            down: A0, float32 [rank, in].
        """
        self._up, self._down = up, down

    def __call__(self, layer: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
        value = inputs[0].to(self._down.dtype)
        if self._up.device != value.device:
            self._up, self._down = self._up.to(value.device), self._down.to(value.device)
        return output - functional.linear(functional.linear(value, self._down), self._up).to(output.dtype)


def load_start(model: Any, file: Path) -> None:  # noqa: ANN401
    """Let a new LoRA adapter begin with its first matrices, and take what they give away from the base model.

    Args:
        model: peft's model.
        file: The file of `write_start`.
    """
    from peft.tuners.lora import LoraLayer
    from peft.utils.integrations import gather_params_ctx

    start = open_safetensors(file)
    for name, layer in model.get_base_model().named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        down, up = start.get_tensor(f"{name}.lora_A"), start.get_tensor(f"{name}.lora_B")
        pairs = ((layer.lora_A["default"].weight, down), (layer.lora_B["default"].weight, up))
        for weight, value in pairs:
            with gather_params_ctx(weight), torch.no_grad():  # ZeRO 3 may have partitioned it
                weight.copy_(value)
        layer.register_forward_hook(_Subtraction(layer.scaling["default"] * up, down))
    setattr(model, START, file)


def without_start(folder: Path, file: Path) -> None:
    """Turn a saved adapter into one for the base model as it is: of twice the rank, with the first matrices subtracted.

    Args:
        folder: The adapter in peft's layout.
        file: The file of `write_start`.
    """
    trained, start = open_safetensors(folder / "adapter_model.safetensors"), open_safetensors(file)
    tensors = {}
    for name in trained.keys():
        layer, _, part = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
        value = trained.get_tensor(name)
        if part not in ("lora_A", "lora_B"):  # of a head that was trained beside it
            tensors[name] = value
            continue
        first = start.get_tensor(f"{layer}.{part}")
        tensors[name] = torch.cat((value, first)) if part == "lora_A" else torch.cat((value, -first), dim=1)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    path = folder / "adapter_config.json"
    settings = json.loads(path.read_text())
    settings["lora_alpha"] *= 2**0.5 if settings["use_rslora"] else 2
    settings["r"] *= 2
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
