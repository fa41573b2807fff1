"""The DeepSpeed configuration of ZeRO 1, 2 and 3, made from a run's values."""

from __future__ import annotations

import warnings
from typing import Any

from tunesmith_api.resolve import Resolved
from tunesmith_trainer.runtime.imports import importing

_BUCKET = 20_000_000  # elements reduced or gathered at once: 80 MB in fp32, enough to keep a network busy


def join_deepspeed() -> None:
    """Make DeepSpeed use the process group of torch, which has been joined already, and compile nothing."""
    with importing():
        import deepspeed

    # It calls functions of torch.distributed by names that torch is leaving behind.
    warnings.filterwarnings("ignore", message="`torch.distributed", category=FutureWarning)
    # On CPU it would build an extension for shared memory wherever it finds a compiler.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)


def deepspeed_config(resolved: Resolved, max_grad_norm: float, *, gpu: bool) -> dict[str, Any]:
    """Return the configuration as DeepSpeed reads it.

    The optimizer is torch's AdamW, made by transformers' Trainer, so that no extension is compiled.

    Args:
        resolved: Values of the run; its strategy is one of ZeRO's.
        max_grad_norm: Norm to which gradients are clipped.
        gpu: Whether there is a GPU, where communication can overlap with the backward pass.
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
            # The name says 16 bit; what is gathered has the precision that is trained in.
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
