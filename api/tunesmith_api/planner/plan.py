"""The plan of a job: how it trains on a machine, and what each stage needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith_api.choices.spread import Strategy, micro_batch
from tunesmith_api.failures import StageError
from tunesmith_api.planner.candidates import candidates
from tunesmith_api.planner.duration import seconds_per_step
from tunesmith_api.planner.machine import Machine
from tunesmith_api.planner.rank_memory import RankMemory, rank_memory
from tunesmith_api.planner.setup import DataShape, Setup
from tunesmith_api.planner.shape import ModelShape
from tunesmith_api.planner.stages import StageNeed, stage_needs
from tunesmith_api.resolve import resolve
from tunesmith_api.spec import TrainingJobSpec

STRATEGIES: tuple[Strategy, ...] = ("ddp", "zero1", "zero2", "zero3")
"""From least communication to least memory."""


@dataclass(frozen=True)
class Plan:
    """How a job trains on a machine, and what it needs.

    Attributes:
        shape: The model.
        machine: Where it trains.
        setup: How it trains.
        stages: What each stage needs, by the stage's name.
        rank: Memory of one training process, by what takes it.
        download: Bytes to download; 0 for a model from scratch.
        total_steps: Optimizer steps of the run; None if the number of rows is not known.
        step_seconds: Seconds of one step.
        hours: Hours of training; None if the number of steps is not known.
        cost: Price of these hours; None without a price.
        reasons: Why each value, by the field's name.
    """

    shape: ModelShape
    machine: Machine
    setup: Setup
    stages: Mapping[str, StageNeed]
    rank: RankMemory
    download: int
    total_steps: int | None
    step_seconds: float
    hours: float | None
    cost: float | None
    reasons: Mapping[str, str]

    @property
    def nodes(self) -> int:
        """The number of machines that it trains on."""
        return math.ceil(self.setup.processes / self.machine.gpus) if self.setup.gpu else 1

    @property
    def shortfalls(self) -> list[str]:
        """What does not fit, each as a phrase with the need and what there is; empty if all fits."""
        train = self.stages["train"]
        found = []
        if train.gpu_memory is not None and train.gpu_memory > self.machine.memory_of_gpu:
            found.append(
                f"{quantity(train.gpu_memory)} of memory of each GPU, and {self.machine.name} has "
                f"{quantity(self.machine.memory_of_gpu)}"
            )
        if train.memory > self.machine.memory:
            found.append(f"{quantity(train.memory)} of memory, and {self.machine.name} has "
                         f"{quantity(self.machine.memory)}")  # fmt: skip
        return found

    @property
    def fits(self) -> bool:
        """Whether training fits into the machine."""
        return not self.shortfalls

    def to_status(self) -> dict[str, Any]:
        """Return the plan as it stands in `status.plan`; sizes are Kubernetes quantities, rounded up."""
        status: dict[str, Any] = {
            "model": {"parameters": self.shape.parameters, "weights": quantity(self.shape.weight_bytes)},
            "machine": self.machine.name,
            "processes": self.setup.processes,
            "strategy": self.setup.strategy,
            "offload": self.setup.offload,
            "packing": self.setup.packing,
            "microBatchSize": self.setup.micro_batch_size,
            "gradientAccumulationSteps": self.setup.gradient_accumulation_steps,
            "gradientCheckpointing": self.setup.gradient_checkpointing,
            "stages": {name: _need(need) for name, need in self.stages.items()},
            "download": quantity(self.download),
        }
        if self.hours is not None:
            status["hours"] = round(self.hours, 2)
        if self.cost is not None:
            status["cost"] = round(self.cost, 2)
        return {**status, "reasons": dict(self.reasons)}


def quantity(size: float) -> str:
    """Return bytes as a Kubernetes quantity, rounded up. It stands for whole bytes, without which the API server warns.

    Args:
        size: Bytes.
    """
    if size <= 10 * 2**30:
        return f"{max(1, math.ceil(size / 2**20))}Mi" if size else "0"
    return f"{math.ceil(size / 2**28) / 4:g}Gi"


def _need(need: StageNeed) -> dict[str, Any]:
    result: dict[str, Any] = {"memory": quantity(need.memory), "disk": quantity(need.disk)}
    if need.gpu_memory is not None:
        result["gpuMemory"] = quantity(need.gpu_memory)
    if need.seconds is not None:
        result["seconds"] = math.ceil(need.seconds)
    return result


def plan(spec: TrainingJobSpec, shape: ModelShape, data: DataShape, machine: Machine, processes: int) -> Plan:
    """Return the plan of a job on a machine. Open values are chosen so that it fits, if it can.

    `Plan.fits` says whether it does.

    Args:
        spec: The job.
        shape: Its model.
        data: Its data.
        machine: Where it trains.
        processes: Processes that train together, over all machines; more than the machine has GPUs are several of it.

    Raises:
        StageError: INVALID_SPEC: the batch sizes do not go with the number of processes.
    """
    tried = None
    for setup, reasons in candidates(spec, shape, data, machine, processes):
        tried = planned(spec, shape, data, machine, setup, reasons)
        if tried.fits:
            return tried
    if tried is None:
        raise AssertionError("there is always a candidate")
    return tried


def planned(
    spec: TrainingJobSpec,
    shape: ModelShape,
    data: DataShape,
    machine: Machine,
    setup: Setup,
    reasons: Mapping[str, str],
) -> Plan:
    """Return the plan of a job whose setup is decided."""
    steps, kept = _steps(spec, data, setup)
    needs = dict(stage_needs(spec, shape, data, machine, setup, kept))
    mean = data.mean / setup.sequences if data.mean else setup.length
    step = seconds_per_step(shape, setup, machine, min(mean, setup.length))
    hours = (steps + _reference_steps(spec, data)) * step / 3600 if steps else None
    if hours is not None:
        train = needs["train"]
        needs["train"] = StageNeed(train.memory, train.disk, train.gpu_memory, hours * 3600)
    nodes = math.ceil(setup.processes / machine.gpus) if setup.gpu else 1
    price = machine.price_per_hour
    return Plan(
        shape=shape,
        machine=machine,
        setup=setup,
        stages=needs,
        rank=rank_memory(shape, setup),
        download=shape.weight_bytes if _is_remote(spec.model.uri) else 0,
        total_steps=steps,
        step_seconds=step,
        hours=hours,
        cost=None if hours is None or price is None else hours * price * nodes,
        reasons=reasons,
    )


def _reference_steps(spec: TrainingJobSpec, data: DataShape) -> float:
    """Return the steps that take as long as computing what the model says of all pairs before training."""
    if not spec.compares_answers or data.rows is None:
        return 0
    return data.rows / spec.training.global_batch_size / 3  # a forward pass, of two or three passes of a step


def _is_remote(uri: str | None) -> bool:
    """Return whether a model has to be downloaded; a folder is used in place."""
    return uri is not None and "://" in uri and not uri.startswith("file://")


def _steps(spec: TrainingJobSpec, data: DataShape, setup: Setup) -> tuple[int | None, int]:
    """Return the steps of the run, None if they are not known, and how many checkpoints are there at once."""
    kept = spec.training.checkpoint.keep + 1  # one more than is kept, while the next one is written
    if data.rows is None and spec.training.max_steps is None:
        return None, kept
    resolved = resolve(spec, setup.processes, data.rows or 1, has_bf16=False)
    return resolved.total_steps, min(kept, (resolved.total_steps - 1) // resolved.checkpoint_steps)


def processes_on(spec: TrainingJobSpec, machine: Machine, nodes: int = 1) -> int:
    """Return the processes that train on machines of one kind: one for each GPU, if the spec names no number."""
    return (spec.distributed.num_proc_per_node or max(1, machine.gpus)) * nodes


def plans_on(
    spec: TrainingJobSpec, shape: ModelShape, data: DataShape, machines: Sequence[Machine], nodes: int = 1
) -> list[Plan]:
    """Return the plan on each machine whose processes can share the batch.

    Args:
        spec: The job.
        shape: Its model.
        data: Its data.
        machines: The machines.
        nodes: How many of one kind train together.
    """
    return [
        plan(spec, shape, data, machine, processes_on(spec, machine, nodes))
        for machine in machines
        if shares_batch(spec, processes_on(spec, machine, nodes))
    ]


def shares_batch(spec: TrainingJobSpec, processes: int) -> bool:
    """Return whether a number of processes can share the global batch, and the micro-batch that the spec names."""
    try:
        micro_batch(spec, processes)
    except StageError:
        return False
    return True
