"""How long training takes, from the FLOPs of a step and a share of what the processor can do."""

from __future__ import annotations

from tunesmith_api.planner.devices import CPU_FLOPS
from tunesmith_api.planner.machine import Machine
from tunesmith_api.planner.setup import Setup
from tunesmith_api.planner.shape import ModelShape

GPU_SHARE = 0.3
"""Share of a GPU's dense bf16 peak that training reaches.

Measured were 0.17 with 1.1 billion parameters on an H200 (docs/benchmarks.md); larger models on slower GPUs reach more.
"""

_UNKNOWN_TFLOPS = 100.0
_FP32_SHARE = 0.25  # of the bf16 peak


def flops_per_token(shape: ModelShape, setup: Setup, length: float) -> float:
    """Return the FLOPs of a token in the forward and the backward pass.

    Two for each weight in the forward pass, two for the gradient of what goes in, two for that of a trained weight;
    checkpointing repeats the forward pass. Attention adds four for each element of a head and each token before.

    Args:
        shape: The model.
        setup: How it is trained.
        length: Tokens of a row.
    """
    passes = 2 + (not setup.info.trains_adapter) + setup.gradient_checkpointing
    attention = 2 * shape.layers * shape.heads * shape.head_dim * length / 2
    attention_passes = 3 + setup.gradient_checkpointing
    return 2 * shape.matrix_parameters * passes + 2 * attention * attention_passes


def seconds_per_step(shape: ModelShape, setup: Setup, machine: Machine, length: float) -> float:
    """Return the seconds of an optimizer step.

    Args:
        shape: The model.
        setup: How it is trained.
        machine: Where.
        length: Tokens of a sequence on average.
    """
    tokens = setup.batch_sequences * setup.gradient_accumulation_steps * length
    flops = flops_per_token(shape, setup, length) * tokens
    if not setup.gpu:
        return flops * setup.processes / (CPU_FLOPS * machine.cpus)
    device = machine.device
    peak = (device.tflops if device else _UNKNOWN_TFLOPS) * 1e12 * (1 if setup.precision == "bf16" else _FP32_SHARE)
    seconds = flops / (GPU_SHARE * peak)
    if setup.processes > 1:
        factor = {0: 2, 1: 2, 2: 2, 3: 3}[setup.zero_stage] * (setup.processes - 1) / setup.processes
        link = device.link if device else 12e9
        seconds += factor * setup.trained_parameters(shape) * 4 / link
    return seconds
