"""How a step is spread over processes and forward passes, where the spec or a plan decides it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.methods import METHODS
from tunesmith_api.spec.job import TrainingJobSpec

Strategy = Literal["ddp", "zero1", "zero2", "zero3"]

_LARGEST_MICRO_BATCH = 8
_SET = "set in the spec"


def largest_divisor(share: int, limit: int) -> int:
    """Return the largest divisor of a number that is not above a limit of at least 1."""
    return max(n for n in range(1, min(share, limit) + 1) if share % n == 0)


def accumulation_reason(global_batch_size: int, world_size: int, micro_batch_size: int) -> str:
    """Return why a step has its number of forward passes."""
    return f"{global_batch_size} rows a step / {world_size} processes / {micro_batch_size} rows a forward pass"


def micro_batch(spec: TrainingJobSpec, world_size: int) -> tuple[int, str]:
    """Return the rows of one forward pass in one process, and why.

    Raises:
        StageError: The batch sizes do not go with the number of processes.
    """
    size = spec.training.global_batch_size
    if size % world_size:
        below, above = size // world_size * world_size, -(-size // world_size) * world_size
        nearest = " or ".join(str(n) for n in (below, above) if n)
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.training.globalBatchSize: {size} rows cannot be shared equally by {world_size} processes",
            f"Write globalBatchSize: {nearest}, or another number of processes",
        )
    share = size // world_size
    given = spec.training.micro_batch_size
    largest = largest_divisor(share, _LARGEST_MICRO_BATCH)
    if given is None:
        return largest, f"the largest divisor of {share} rows a process, up to {_LARGEST_MICRO_BATCH}"
    if share % given:
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.training.microBatchSize: {given} does not divide the {share} rows that each of {world_size} "
            "processes has in a step",
            f"Write microBatchSize: {largest}, or leave it out",
        )
    return given, _SET


def strategies_of(spec: TrainingJobSpec, world_size: int) -> tuple[Strategy, ...]:
    """Return the strategies to choose from, the least communication first."""
    given = spec.distributed
    if given.strategy != "auto":
        return (given.strategy,)
    if given.offload == "all" or given.nvme_path is not None:
        return ("zero3",)
    found: tuple[Strategy, ...] = ("ddp", "zero1", "zero2", "zero3") if world_size > 1 else ("ddp",)
    if given.offload == "optimizer":
        found = ("zero2", "zero3")  # zero1 is no faster then, and keeps all gradients on the GPU
    return found if METHODS[spec.method].partitions_weights else tuple(name for name in found if name != "zero3")


def strategy_of(spec: TrainingJobSpec, world_size: int, plan: Mapping[str, Any]) -> tuple[Strategy, str]:
    """Return how training is spread over processes, as the spec or the plan has it, and why."""
    if spec.distributed.strategy != "auto":
        return spec.distributed.strategy, _SET
    planned = plan.get("strategy")
    if planned and (spec.distributed.offload == "none" or planned in strategies_of(spec, world_size)):
        return planned, _planned(plan, "strategy")
    strategy = strategies_of(spec, world_size)[0]
    if strategy != "ddp":
        return strategy, f"auto takes {strategy} with offload"
    return "ddp", "auto takes ddp" if world_size > 1 else "plain torch, as there is one process"


def checkpointing_of(spec: TrainingJobSpec, plan: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether activations are recomputed, as the spec or the plan has it, and why."""
    if spec.training.gradient_checkpointing is not None:
        return spec.training.gradient_checkpointing, _SET
    if "gradientCheckpointing" in plan:
        return bool(plan["gradientCheckpointing"]), _planned(plan, "gradientCheckpointing")
    return False, "default: activations are kept, which is faster"


def micro_batch_of(spec: TrainingJobSpec, world_size: int, plan: Mapping[str, Any]) -> tuple[int, str]:
    """Return the rows of one forward pass as the spec or the plan has them, and why."""
    largest, why = micro_batch(spec, world_size)
    planned = plan.get("microBatchSize")
    if spec.training.micro_batch_size is not None or not planned or planned == largest:
        return largest, why
    share = spec.training.global_batch_size // world_size
    if plan.get("processes") != world_size:
        fitting = largest_divisor(share, planned)
        return fitting, f"the largest divisor of {share} rows a process, up to the {planned} that were planned"
    return (planned, _planned(plan, "microBatchSize")) if share % planned == 0 else (largest, why)


def _planned(plan: Mapping[str, Any], field: str) -> str:
    """Return why the plan has a value, with the memory that it counts on."""
    why = str((plan.get("reasons") or {}).get(field) or "as planned")
    need = (plan.get("stages") or {}).get("train") or {}
    size = f"{need['gpuMemory']} of each GPU" if need.get("gpuMemory") else need.get("memory")
    place = f" on {plan['machine']}" if plan.get("machine") else ""
    return f"{why}; planned{place} with {size}" if size else why
