"""The DeepSpeed configuration of ZeRO 1, 2 and 3, built from a run's resolved values."""

from __future__ import annotations

import warnings
from typing import Any

from tunesmith_api.local.imports import importing
from tunesmith_api.resolve import Resolved
from tunesmith_trainer.train.compat.deepspeed import compile_nothing

_BUCKET = 20_000_000  # elements in one reduce or gather: 80 MB in fp32, enough to keep a network busy


def join_deepspeed() -> None:
    """Make DeepSpeed use the existing process group of torch, and compile no extension."""
    with importing():
        import deepspeed

    # DeepSpeed calls functions of torch.distributed by deprecated names.
    warnings.filterwarnings("ignore", message="`torch.distributed", category=FutureWarning)
    compile_nothing()
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)


def deepspeed_config(resolved: Resolved, max_grad_norm: float, *, gpu: bool) -> dict[str, Any]:
    """Return the configuration in DeepSpeed's format.

    The optimizer is torch's AdamW, created by transformers' Trainer: DeepSpeed's own would compile an extension.

    Args:
        resolved: Resolved values of the run; the strategy is a ZeRO stage.
        max_grad_norm: Norm that gradients are clipped to.
        gpu: Whether training runs on GPUs, where communication can overlap with the backward pass.
    """
    zero: dict[str, Any] = {
        "stage": resolved.zero_stage,
        "contiguous_gradients": True,
        "overlap_comm": gpu,
        "reduce_bucket_size": _BUCKET,
        "allgather_bucket_size": _BUCKET,
    }
    if resolved.zero_stage == 3:
        zero.update(
            # Despite the name, the weights are gathered in the precision of training.
            stage3_gather_16bit_weights_on_model_save=True,
            stage3_prefetch_bucket_size=_BUCKET,
            stage3_param_persistence_threshold=100_000,
            stage3_max_live_parameters=1_000_000_000,
            stage3_max_reuse_distance=1_000_000_000,
        )
    return {
        "train_micro_batch_size_per_gpu": resolved.micro_batch_size,
        "gradient_accumulation_steps": resolved.gradient_accumulation_steps,
        "train_batch_size": resolved.global_batch_size,
        "gradient_clipping": max_grad_norm,
        "zero_optimization": zero,
        "bf16": {"enabled": resolved.precision == "bf16"},
        "fp16": {"enabled": False},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }
