"""What fits where and what it costs: device by method by strategy, like a price list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tunesmith_api.choices.spread import Strategy
from tunesmith_api.methods import METHODS
from tunesmith_api.planner.machine import Machine
from tunesmith_api.planner.plan import STRATEGIES, Plan, plan, processes_on, shares_batch
from tunesmith_api.planner.setup import DataShape
from tunesmith_api.planner.shape import ModelShape
from tunesmith_api.spec import AdapterSpec, DistributedSpec, TrainingJobSpec


@dataclass(frozen=True)
class PriceRow:
    """A way to train a job, and what it takes.

    Attributes:
        machine: Name of the machine.
        method: The method of training.
        strategy: How training is spread over processes.
        processes: Processes that train together.
        need: Bytes of each GPU, or of the machine where it has none, with the reserve.
        available: Bytes that there are.
        fits: Whether all of it fits.
        micro_batch_size: Rows of one forward pass.
        gradient_checkpointing: Whether activations are recomputed.
        hours: Hours of training; None if the number of rows is not known.
        cost: Price of these hours; None without a price.
        plan: The whole plan, with what each stage needs.
    """

    machine: str
    method: str
    strategy: str
    processes: int
    need: int
    available: int
    fits: bool
    micro_batch_size: int
    gradient_checkpointing: bool
    hours: float | None
    cost: float | None
    plan: Plan


def price_list(
    spec: TrainingJobSpec, shape: ModelShape, data: DataShape, machines: Sequence[Machine]
) -> tuple[PriceRow, ...]:
    """Return a row for each machine, method and strategy. Machines whose processes cannot share the batch are left out.

    Args:
        spec: The job; its method and strategy are varied.
        shape: Its model.
        data: Its data.
        machines: The machines.
    """
    rows = []
    for machine in machines:
        processes = processes_on(spec, machine)
        if not shares_batch(spec, processes):
            continue
        for method in METHODS:
            for strategy in _strategies(spec, processes):
                adapter = _adapter_of(spec.adapter, method)
                distributed = spec.distributed.model_copy(update={"strategy": strategy})
                changed = spec.model_copy(update={"method": method, "adapter": adapter, "distributed": distributed})
                found = plan(changed, shape, data, machine, processes)
                train = found.stages["train"]
                rows.append(
                    PriceRow(
                        machine=machine.name,
                        method=method,
                        strategy=strategy,
                        processes=processes,
                        need=train.memory if train.gpu_memory is None else train.gpu_memory,
                        available=machine.memory if train.gpu_memory is None else machine.memory_of_gpu,
                        fits=found.fits,
                        micro_batch_size=found.setup.micro_batch_size,
                        gradient_checkpointing=found.setup.gradient_checkpointing,
                        hours=found.hours,
                        cost=found.cost,
                        plan=found,
                    )
                )
    return tuple(rows)


def _adapter_of(adapter: AdapterSpec | None, method: str) -> AdapterSpec | None:
    """Return those of an adapter's settings that have a meaning with a method; None where it trains no adapter."""
    info = METHODS[method]
    if adapter is None or not info.trains_adapter:
        return None
    known = {*info.adapter_settings, "target_modules"}
    return AdapterSpec(**{name: value for name, value in adapter if name in known})


def _strategies(spec: TrainingJobSpec, processes: int) -> Sequence[Strategy]:
    """Return the strategies to compare: all that go with what is offloaded."""
    if spec.distributed.offload == "none":
        return STRATEGIES if processes > 1 else STRATEGIES[:1]
    values = spec.distributed.model_dump(exclude={"strategy"}, exclude_unset=True)
    return [strategy for strategy in STRATEGIES if _is_valid({**values, "strategy": strategy})]


def _is_valid(distributed: Mapping[str, Any]) -> bool:
    try:
        DistributedSpec(**distributed)
    except ValidationError:
        return False
    return True
