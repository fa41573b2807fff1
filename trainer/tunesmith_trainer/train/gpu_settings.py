"""Settings of torch for training on NVIDIA GPUs; without one they change nothing."""

from __future__ import annotations

import os

import torch

ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""The names of the variable, the second one deprecated, that configures torch's allocator."""


def use_gpu_settings() -> None:
    """Configure torch, before it first allocates on the GPU.

    Segments of memory grow, so that batches of varying sizes do not split the memory into parts that are too small for
    the next one; the user's own setting is kept. A product of fp32 matrices is computed in fp32, not TF32: who chooses
    `precision: fp32` on a GPU wants its digits, and bf16 is there for speed.
    """
    if not any(name in os.environ for name in ALLOCATOR):
        os.environ[ALLOCATOR[0]] = "expandable_segments:True"
    torch.set_float32_matmul_precision("highest")
