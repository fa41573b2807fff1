"""The configurations nearest to a job that does not fit, each of which was planned and does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunesmith_api.methods import DEFAULT_METHOD, METHODS, MethodInfo
from tunesmith_api.planner.adapters import kind_of
from tunesmith_api.planner.machine import Machine
from tunesmith_api.planner.plan import Plan, plans_on, quantity
from tunesmith_api.planner.setup import DataShape
from tunesmith_api.planner.shape import ModelShape
from tunesmith_api.resolve import Offload
from tunesmith_api.spec import TrainingJobSpec

_NAMED = 3  # configurations that a refusal names
_SHORTEST = 64  # tokens; a shorter maxLength is not proposed
_MORE_NODES = (2, 4, 8)
_ORDER: tuple[Offload, ...] = ("none", "optimizer", "all")


def nearest_ways(
    spec: TrainingJobSpec,
    shape: ModelShape,
    data: DataShape,
    machines: Sequence[Machine],
    nodes: int,
    others: Sequence[Machine],
) -> tuple[str, ...]:
    """Return up to three configurations that fit, as the YAML to write, the mildest change first.

    Args:
        spec: The job.
        shape: Its model.
        data: Its data.
        machines: The machines that it may train on.
        nodes: How many of one kind train together.
        others: Further machines.
    """
    found: list[str] = []
    for text in _ways(spec, shape, data, machines, nodes, others):
        if text not in found:
            found.append(text)
        if len(found) == _NAMED:
            break
    return tuple(found)


def _ways(
    spec: TrainingJobSpec,
    shape: ModelShape,
    data: DataShape,
    machines: Sequence[Machine],
    nodes: int,
    others: Sequence[Machine],
) -> Iterator[str]:
    """Return all ways: other values on the same machine, a larger one, shorter rows, an adapter, more machines."""

    def first(changed: TrainingJobSpec, where: Sequence[Machine], count: int = nodes) -> Plan | None:
        fitting = [found for found in plans_on(changed, shape, data, where, count) if found.fits]
        return min(fitting, key=lambda found: (found.machine.gpus, found.machine.memory_of_gpu), default=None)

    free = _opened(spec)
    gpus = [machine for machine in machines if machine.gpus]
    if best := first(free, machines):
        yield _text(best, spec)
    for offload in ("optimizer", "all") if METHODS[spec.method].partitions_weights else ("optimizer",):
        if _ORDER.index(offload) > _ORDER.index(spec.distributed.offload):
            distributed = free.distributed.model_copy(update={"offload": offload})
            if best := first(free.model_copy(update={"distributed": distributed}), gpus):
                yield _text(best, spec)
                break
    larger = [machine for machine in others if machine.name not in {other.name for other in machines}]
    if best := first(spec, larger) or first(free, larger):
        yield _text(best, spec, f"resources: {{machine: {best.machine.name}}}")
    length = spec.training.max_length // 2
    while length >= _SHORTEST:
        training = free.training.model_copy(update={"max_length": length})
        if best := first(free.model_copy(update={"training": training}), machines):
            yield _text(best, spec, length=length)
            break
        length //= 2
    for method in _lighter(METHODS[spec.method]):
        if best := first(free.model_copy(update={"method": method}), machines):
            yield _text(best, spec, f"method: {method}")
            break
    for count in _MORE_NODES:
        if count > nodes and (best := first(free, gpus, count)):
            yield _text(best, spec, f"resources: {{nodes: {count}}}")
            break


def _lighter(info: MethodInfo) -> Iterator[str]:
    """Return the methods that need less: an adapter, and the same one beside quantized weights."""
    if not info.trains_adapter:
        yield DEFAULT_METHOD
        info = METHODS[DEFAULT_METHOD]
    if not info.is_quantized:
        for other in METHODS.values():
            if other.is_quantized and kind_of(other) == kind_of(info):
                yield other.name


def _opened(spec: TrainingJobSpec) -> TrainingJobSpec:
    """Return a job that leaves to the plan what it can decide."""
    kept = spec.training.model_fields_set - {"micro_batch_size", "gradient_checkpointing"}
    values = {name: getattr(spec.training, name) for name in kept}
    distributed = spec.distributed.model_copy(update={"strategy": "auto"})
    return spec.model_copy(update={"training": type(spec.training)(**values), "distributed": distributed})


def _text(found: Plan, spec: TrainingJobSpec, *parts: str, length: int | None = None) -> str:
    """Return a plan as the YAML that differs from the spec, with what it needs."""
    setup, training = found.setup, spec.training
    values: dict[str, Any] = {}
    if training.micro_batch_size not in (None, setup.micro_batch_size):
        values["microBatchSize"] = setup.micro_batch_size
    fixed = "gradient_checkpointing" in training.model_fields_set and training.gradient_checkpointing is not None
    if fixed and training.gradient_checkpointing != setup.gradient_checkpointing:
        values["gradientCheckpointing"] = str(setup.gradient_checkpointing).lower()
    if length is not None:
        values["maxLength"] = length
    written = list(parts)
    if values:
        written.append(f"training: {_mapping(values)}")
    distributed: dict[str, str] = {}
    if spec.distributed.strategy not in ("auto", setup.strategy):
        distributed["strategy"] = setup.strategy
    if spec.distributed.offload != setup.offload:
        distributed["offload"] = setup.offload
    if distributed:
        written.append(f"distributed: {_mapping(distributed)}")
    need = found.stages["train"]
    size = f"{quantity(need.gpu_memory)} of each GPU" if need.gpu_memory else f"{quantity(need.memory)} of memory"
    return f"{', '.join(written)} (needs {size}, {found.machine.name} has {_having(found)})"


def _mapping(values: Mapping[str, Any]) -> str:
    return f"{{{', '.join(f'{name}: {value}' for name, value in values.items())}}}"


def _having(found: Plan) -> str:
    return quantity(found.machine.memory_of_gpu if found.setup.gpu else found.machine.memory)
