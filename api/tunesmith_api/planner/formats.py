"""The number formats of a run: which tensors are in fp32 and which in bf16."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith_api.methods import MethodInfo

FP32 = 4
BF16 = 2


@dataclass(frozen=True)
class Formats:
    """The number formats of a run, each as bytes of an element.

    Attributes:
        product: Operands and results of matrix products.
        residual: The hidden states between layers.
        frozen: Frozen weights.
        trained: Trained weights in the model; DeepSpeed also keeps them in fp32 in its optimizer.
        adapter_input: What peft converts the input of an adapter to, before autocast converts it again.
        autocast: Whether torch's autocast converts operands, and keeps a copy of each.
    """

    product: int
    residual: int
    frozen: float
    trained: int
    adapter_input: int
    autocast: bool


def formats_of(info: MethodInfo, precision: str, zero_stage: int) -> Formats:
    """Return the number formats of a run.

    - fp32: everything is fp32.
    - bf16 in plain torch or DDP: accelerate runs the model under autocast. With `full` the weights stay fp32
      (methods/base.py), so the hidden states are fp32; with an adapter the frozen weights and the hidden states are
      bf16 and the adapter's weights fp32 (peft's `autocast_adapter_dtype`).
    - bf16 under DeepSpeed: the engine converts the whole model to bf16, and there is no autocast.

    Args:
        info: The method.
        precision: fp32 or bf16.
        zero_stage: The stage of DeepSpeed ZeRO, 0 for plain torch.
    """
    if precision == "fp32":
        return Formats(FP32, FP32, FP32, FP32, FP32, autocast=False)
    frozen = info.frozen_weight_bytes
    if zero_stage:
        return Formats(BF16, BF16, frozen, BF16, BF16, autocast=False)
    residual = BF16 if info.trains_adapter else FP32
    return Formats(BF16, residual, frozen, FP32, FP32, autocast=True)
