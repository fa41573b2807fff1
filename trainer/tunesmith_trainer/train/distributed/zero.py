"""The DeepSpeed configuration of ZeRO 1, 2 and 3, built from a run's resolved values."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.local.imports import importing
from tunesmith_api.resolve import Resolved
from tunesmith_trainer.train.compat.deepspeed import compile_nothing, load_nvme_extensions

_BUCKET = 20_000_000  # elements in one reduce or gather: 80 MB in fp32, enough to keep a network busy
_NVME_GROUP = 100_000_000  # elements that are read from the disk at once, four times 400 MB in a step

_NVME_FOLDER = "zero_stage_3"  # that DeepSpeed makes


def join_deepspeed(resolved: Resolved) -> None:
    """Make DeepSpeed use the existing process group of torch, and compile no extension.

    Args:
        resolved: Resolved values of the run.

    Raises:
        StageError: INVALID_SPEC: the run offloads to a disk, and the extension for that is not built, or the folder
            cannot be written.
    """
    with importing():
        import deepspeed

    # DeepSpeed calls functions of torch.distributed by deprecated names.
    warnings.filterwarnings("ignore", message="`torch.distributed", category=FutureWarning)
    compile_nothing()
    if resolved.nvme_path is not None:
        _check_nvme(resolved.nvme_path)
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)


def _check_nvme(path: str) -> None:
    if not load_nvme_extensions():
        raise StageError(
            Reason.INVALID_SPEC,
            "spec.distributed.nvmePath: DeepSpeed's extension async_io is not built here",
            "Remove nvmePath to offload to the machine's memory, or use an image that has it (docs/distributed.md)",
        )
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.distributed.nvmePath: {path} cannot be written: {error.strerror}",
            "Name a folder that training may write to",
        ) from error


def remove_offloaded(resolved: Resolved) -> None:
    """Remove what this machine's processes have offloaded to a disk. Called when none of them needs it any more."""
    if resolved.nvme_path is not None and os.environ.get("LOCAL_RANK", "0") == "0":
        shutil.rmtree(Path(resolved.nvme_path) / _NVME_FOLDER, ignore_errors=True)


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
    if resolved.offload != "none":
        zero["offload_optimizer"] = _offload(resolved, gpu=gpu)
    if resolved.offload == "all":
        zero["offload_param"] = _offload(resolved, gpu=gpu)
    if resolved.nvme_path is not None:
        zero["sub_group_size"] = _NVME_GROUP
    if resolved.zero_stage == 3:
        zero.update(
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


def _offload(resolved: Resolved, *, gpu: bool) -> dict[str, Any]:
    """Return where something is offloaded to. Only a GPU needs page-locked memory, to be copied from fast."""
    if resolved.nvme_path is None:
        return {"device": "cpu", "pin_memory": gpu}
    return {"device": "nvme", "nvme_path": resolved.nvme_path, "pin_memory": gpu}
