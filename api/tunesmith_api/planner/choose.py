"""Chooses the machine that a job trains on, and says what else would fit where none does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tunesmith_api.planner.machine import Machine
from tunesmith_api.planner.nearest import nearest_ways
from tunesmith_api.planner.plan import Plan, plans_on
from tunesmith_api.planner.setup import DataShape
from tunesmith_api.planner.shape import ModelShape
from tunesmith_api.spec import TrainingJobSpec

_LONG_HOURS = 24.0
_LONG_STEP = 120.0  # seconds, where the number of steps is not known


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


def choose(
    spec: TrainingJobSpec,
    shape: ModelShape,
    data: DataShape,
    machines: Sequence[Machine],
    nodes: int = 1,
    others: Sequence[Machine] = (),
) -> Plan | DoesNotFit:
    """Return the plan on the cheapest machine that a job fits on.

    The cheapest is that on which the whole run costs least. Where no price is known it is the smallest on which the run
    does not take very long: first those without GPU, then by number and memory of GPUs, then by memory.

    Args:
        spec: The job.
        shape: Its model.
        data: Its data.
        machines: The machines to choose from, at least one.
        nodes: How many of one kind train together.
        others: Further machines, which a refusal may name.
    """
    shape, data = _as_learned(spec, shape, data)
    plans = plans_on(spec, shape, data, machines, nodes)
    fitting = [found for found in plans if found.fits]
    if fitting:
        return min(fitting, key=expense)
    closest = min(plans, key=_gap, default=None)
    if closest is None:
        message = f"globalBatchSize {spec.training.global_batch_size} cannot be shared by the processes of any machine"
    else:
        setup = closest.setup
        message = (
            f"{spec.method} of {shape.parameters / 1e9:.2f}B parameters by {setup.strategy} in {setup.processes} "
            f"process{'es' if setup.processes > 1 else ''}, microBatchSize {setup.micro_batch_size}"
            f"{', with gradientCheckpointing' if setup.gradient_checkpointing else ''}, needs "
            + " and ".join(closest.shortfalls)
        )
    return DoesNotFit(closest, message, nearest_ways(spec, shape, data, machines, nodes, others))


def _as_learned(spec: TrainingJobSpec, shape: ModelShape, data: DataShape) -> tuple[ModelShape, DataShape]:
    """Return the sizes for the task: a classifier has no output layer, and one position of a row that is learned.

    What its head takes instead is little beside what is counted for that position, with the outputs of a vocabulary.
    """
    if spec.task != "sequenceClassification":
        return shape, data
    return replace(shape, tied=True), replace(data, targets=1)


def expense(found: Plan) -> tuple[float, ...]:
    """Return what plans are compared by: the cheaper, the smaller."""
    machine = found.machine
    size = (machine.gpus, machine.memory_of_gpu, machine.memory, machine.cpus)
    if machine.price_per_hour is None:
        slow = found.hours > _LONG_HOURS if found.hours is not None else found.step_seconds > _LONG_STEP
        return (1, slow, *size)
    # The number of steps is the same everywhere.
    return (0, machine.price_per_hour * found.nodes * found.step_seconds, *size)


def _gap(found: Plan) -> float:
    """Return how many times too large the need is."""
    train = found.stages["train"]
    gpu = (train.gpu_memory or 0) / (found.machine.memory_of_gpu or 1)
    return max(gpu, train.memory / found.machine.memory)
