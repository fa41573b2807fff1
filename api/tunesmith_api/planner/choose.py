"""Chooses the machine that a job trains on, and says what else would fit where none does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith_api.methods import DEFAULT_METHOD, METHODS
from tunesmith_api.planner.machine import Machine
from tunesmith_api.planner.plan import Plan, plan, shares_batch
from tunesmith_api.planner.setup import DataShape
from tunesmith_api.planner.shape import ModelShape
from tunesmith_api.spec import TrainingJobSpec

_SHORTEST = 64  # tokens of the shortest rows that are proposed

_NAMED = 3  # configurations that a refusal names


@dataclass(frozen=True)
class DoesNotFit:
    """That a job fits on no machine.

    Attributes:
        plan: The plan that comes nearest; None where the batch cannot be shared by the processes of any machine.
        message: What is needed and what there is.
        nearest: Up to three configurations that do fit, each with the YAML to write.
    """

    plan: Plan | None
    message: str
    nearest: tuple[str, ...]

    @property
    def remedy(self) -> str:
        """What to do instead, in one text."""
        return "; or ".join(self.nearest) or "Use a larger machine or a smaller model"


def processes_on(spec: TrainingJobSpec, machine: Machine, nodes: int = 1) -> int:
    """Return the processes that train on machines of one kind: one for each GPU, if the spec names no number."""
    return (spec.distributed.num_proc_per_node or max(1, machine.gpus)) * nodes


def choose(
    spec: TrainingJobSpec, shape: ModelShape, data: DataShape, machines: Sequence[Machine], nodes: int = 1
) -> Plan | DoesNotFit:
    """Return the plan on the cheapest machine that a job fits on.

    Without prices the smallest is taken: without GPU before with, then by number and memory of GPUs, then by memory.

    Args:
        spec: The job.
        shape: Its model.
        data: Its data.
        machines: The machines to choose from, at least one.
        nodes: How many of one kind train together.
    """
    plans = [
        plan(spec, shape, data, machine, processes_on(spec, machine, nodes))
        for machine in machines
        if shares_batch(spec, processes_on(spec, machine, nodes))
    ]
    fitting = [found for found in plans if found.fits]
    if fitting:
        return min(fitting, key=_expense)
    nearest = min(plans, key=_gap, default=None)
    if nearest is None:
        message = f"globalBatchSize {spec.training.global_batch_size} cannot be shared by the processes of any machine"
    else:
        message = (
            f"{spec.method} of {shape.parameters / 1e9:.2f}B parameters by {nearest.setup.strategy} on "
            f"{nearest.setup.processes} process{'es' if nearest.setup.processes > 1 else ''} needs "
            + " and ".join(nearest.shortfalls)
        )
    return DoesNotFit(nearest, message, _nearest(spec, shape, data, machines, nodes))


def _expense(found: Plan) -> tuple[float, ...]:
    machine = found.machine
    size = (machine.gpus, machine.memory_of_gpu, machine.memory, machine.cpus)
    if machine.price_per_hour is None:
        return (1, 0, *size)
    return (0, found.cost if found.cost is not None else machine.price_per_hour, *size)


def _gap(found: Plan) -> float:
    """Return how many times too large the need is."""
    train = found.stages["train"]
    gpu = (train.gpu_memory or 0) / (found.machine.memory_of_gpu or 1)
    return max(gpu, train.memory / found.machine.memory)


def _nearest(
    spec: TrainingJobSpec, shape: ModelShape, data: DataShape, machines: Sequence[Machine], nodes: int
) -> tuple[str, ...]:
    """Return the nearest configurations that fit, as the YAML to write, each planned again."""
    found: list[str] = []
    for text, changed in _changes(spec):
        if len(found) == _NAMED:
            break
        fitting = [
            candidate
            for machine in machines
            if shares_batch(changed, processes_on(changed, machine, nodes))
            and (candidate := plan(changed, shape, data, machine, processes_on(changed, machine, nodes))).fits
        ]
        if fitting:
            best = min(fitting, key=_expense)
            need = best.stages["train"]
            found.append(f"{text} ({_described(best)}: {_sizes(need.gpu_memory, need.memory)})")
    return tuple(found)


def _described(found: Plan) -> str:
    return f"on {found.machine.name}, {found.setup.strategy}"


def _sizes(gpu: int | None, memory: int) -> str:
    from tunesmith_api.planner.plan import quantity

    return f"{quantity(gpu)} of each GPU" if gpu is not None else f"{quantity(memory)} of memory"


def _changes(spec: TrainingJobSpec) -> Iterator[tuple[str, TrainingJobSpec]]:
    """Return changes of a job that make it need less memory, the mildest first, as YAML and as the changed job."""
    training = spec.training
    if training.micro_batch_size not in (None, 1):
        yield _changed(spec, "training: {microBatchSize: 1}", training={"micro_batch_size": 1})
    if "gradient_checkpointing" in training.model_fields_set and not training.gradient_checkpointing:
        yield _changed(spec, "training: {gradientCheckpointing: true}", training={"gradient_checkpointing": True})
    small: dict[str, Any] = {"micro_batch_size": 1, "gradient_checkpointing": True}
    yield _changed(spec, "training: {microBatchSize: 1, gradientCheckpointing: true}", training=small)
    if spec.distributed.strategy != "auto":
        yield _changed(spec, "distributed: {strategy: auto}", distributed={"strategy": "auto"})
    for length in (training.max_length // 2, training.max_length // 4):
        if length >= _SHORTEST:
            yield _changed(
                spec,
                f"training: {{microBatchSize: 1, gradientCheckpointing: true, maxLength: {length}}}",
                training={**small, "max_length": length},
            )
    if not METHODS[spec.method].trains_adapter:
        changed = spec.model_copy(update={"method": DEFAULT_METHOD})
        yield f"method: {DEFAULT_METHOD}", changed
        yield _changed(
            changed,
            f"method: {DEFAULT_METHOD}, training: {{microBatchSize: 1, gradientCheckpointing: true}}",
            training=small,
        )


def _changed(spec: TrainingJobSpec, text: str, **parts: dict[str, Any]) -> tuple[str, TrainingJobSpec]:
    update = {}
    for name, fields in parts.items():
        part = getattr(spec, name)
        update[name] = part.model_copy(update=fields)  # also marks the fields as set
    return text, spec.model_copy(update=update)
