"""The ways to train a job on a machine that its spec allows, in the order in which they are wanted."""

from __future__ import annotations

from typing import Literal

from tunesmith_api.choices.speed import PACKS_WELL, PackingFacts
from tunesmith_api.choices.spread import Strategy, micro_batch, strategies_of
from tunesmith_api.planner.machine import Machine
from tunesmith_api.planner.setup import DataShape, Setup
from tunesmith_api.planner.shape import ModelShape
from tunesmith_api.resolve import resolve
from tunesmith_api.spec import TrainingJobSpec

_GPU_PADDING = 8  # lengths are rounded up to a multiple of this on a GPU
_SET = "set in the spec"


def candidates(
    spec: TrainingJobSpec, shape: ModelShape, data: DataShape, machine: Machine, processes: int
) -> list[tuple[Setup, dict[str, str]]]:
    """Return the setups that the spec allows, the one that is wanted most first.

    A strategy with less communication comes first; within one, no checkpointing before checkpointing, and the
    largest micro-batch first.
    """
    largest, why = micro_batch(spec, processes)
    share = spec.training.global_batch_size // processes
    given = spec.training.micro_batch_size is not None
    sizes = [largest] if given else [n for n in range(largest, 0, -1) if share % n == 0]
    fixed = spec.training.gradient_checkpointing
    decided = "gradient_checkpointing" in spec.training.model_fields_set and fixed is not None
    checkpointing: list[bool] = [bool(fixed)] if decided else [False, True]
    strategies = strategies_of(spec, processes)
    found = []
    for strategy in strategies:
        for checkpoints in checkpointing:
            for size in sizes:
                setup = make_setup(spec, shape, data, machine, processes, strategy, size, checkpointing=checkpoints)
                reasons = {
                    "strategy": _strategy_reason(spec, strategies, processes),
                    "microBatchSize": why if size == largest else f"the largest divisor of {share} rows that fits",
                    "gradientCheckpointing": _SET if decided else "needed to fit" if checkpoints else "not needed",
                }  # fmt: skip
                if setup.offload != "none":
                    reasons["offload"] = _SET
                found.append((setup, reasons))
    return found


def _strategy_reason(spec: TrainingJobSpec, strategies: tuple[Strategy, ...], processes: int) -> str:
    if spec.distributed.strategy != "auto":
        return _SET
    if len(strategies) == 1 and processes > 1:
        return "the only one with this offload"
    if strategies == ("ddp",):
        return "plain torch, as there is one process"
    return "the least communication that fits"


def make_setup(
    spec: TrainingJobSpec,
    shape: ModelShape,
    data: DataShape,
    machine: Machine,
    processes: int,
    strategy: Strategy,
    micro_batch_size: int,
    *,
    checkpointing: bool,
) -> Setup:
    """Return a way to train a job on a machine."""
    gpu = machine.gpus > 0
    precision: Literal["fp32", "bf16"] = "bf16" if machine.has_bf16 else "fp32"
    if spec.training.precision != "auto":
        precision = spec.training.precision
    longest = min(data.longest or spec.training.max_length, spec.training.max_length)
    length = -(-longest // _GPU_PADDING) * _GPU_PADDING if gpu else longest
    resolved = resolve(spec, processes, data.rows or 1, has_bf16=machine.has_bf16, facts=_packing_facts(shape))
    return Setup(
        method=spec.method,
        precision=precision,
        strategy=strategy,
        processes=processes,
        micro_batch_size=micro_batch_size,
        gradient_accumulation_steps=spec.training.global_batch_size // processes // micro_batch_size,
        length=length,
        gradient_checkpointing=checkpointing,
        adapter=resolved.adapter,
        gpu=gpu,
        targets=data.targets,
        offload=resolved.offload,
        nvme=resolved.nvme_path is not None,
        packing=resolved.packing,
        sequences=2 if spec.compares_answers else 1,
    )


def _packing_facts(shape: ModelShape) -> PackingFacts:
    """Return what is known of packing before the model is read (models/packed_attention.py)."""
    return PackingFacts(slow="its attention has no kernel") if shape.computes_whole_attention else PACKS_WELL
