"""The plan of a job before it runs, from what can be read in a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith_api.planner import (
    DoesNotFit,
    Machine,
    ModelShape,
    Plan,
    PriceRow,
    UnknownModel,
    choose,
    price_list,
)
from tunesmith_api.spec import JobConfig
from tunesmith_backend.interface.errors import BackendError
from tunesmith_backend.plan.model_config import model_config
from tunesmith_backend.plan.rows import ConfigMaps, RowEstimate, estimate_rows


@dataclass(frozen=True)
class PlannedJob:
    """A job, and how it would run.

    Attributes:
        config: The job.
        shape: Its model.
        rows: Its data.
        found: The plan, or why there is none.
    """

    config: JobConfig
    shape: ModelShape
    rows: RowEstimate
    found: Plan | DoesNotFit

    def on(self, machines: Sequence[Machine]) -> Plan | DoesNotFit:
        """Return the plan on the cheapest of other machines."""
        return choose(self.config.spec, self.shape, self.rows.shape, machines)

    def prices(self, machines: Sequence[Machine]) -> tuple[PriceRow, ...]:
        """Return what fits where: a row for each machine, method and strategy."""
        return price_list(self.config.spec, self.shape, self.rows.shape, machines)


def plan_job(
    config: JobConfig,
    config_maps: ConfigMaps,
    machines: Sequence[Machine],
    nodes: int = 1,
    others: Sequence[Machine] = (),
    seconds: float = 15.0,
) -> PlannedJob:
    """Return the plan of a job.

    Args:
        config: The job, with absolute paths.
        config_maps: The ConfigMaps that are known.
        machines: The machines that it may train on, at least one.
        nodes: How many of one kind train together.
        others: Further machines, which a refusal may name.
        seconds: How long the Hugging Face hub is waited for.

    Raises:
        BackendError: Its model's configuration cannot be read, or the planner does not know the model.
    """
    spec = config.spec
    rows = estimate_rows(spec, config_maps, config.namespace)
    try:
        if spec.model.scratch is not None:
            shape = ModelShape.of_scratch(spec.model.scratch)
        else:
            shape = ModelShape.from_config(model_config(spec.model, seconds))
    except UnknownModel as error:
        raise BackendError(f"FineTuneJob {config.name}: {error}") from None
    return PlannedJob(config, shape, rows, choose(spec, shape, rows.shape, machines, nodes, others))
