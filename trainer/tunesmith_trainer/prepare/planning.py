"""Plans the job with what the prepare stage knows of it, and refuses what cannot fit."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tunesmith_api.choices.spread import micro_batch
from tunesmith_api.contract import JOB_CONFIG, MACHINE, NODES
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.local.hardware import read_hardware
from tunesmith_api.planner import (
    OWN_MACHINE,
    DataShape,
    Machine,
    ModelShape,
    Plan,
    UnknownModel,
    choose,
    own_machine,
    parse_machines,
    processes_on,
    quantity,
)
from tunesmith_api.spec import JobConfig
from tunesmith_trainer.storage.uris import local_path

log = logging.getLogger(__name__)

_SHORT = DataShape(longest=8, mean=8.0)  # what does not fit with rows this short fits with no data
_SMALL_VOCABULARY = 300  # the smallest that a model from scratch may have


def known_settings(config: JobConfig) -> Mapping[str, Any] | None:
    """Return the config.json of a model that need not be fetched; None if there is none yet, or if it is broken."""
    folder = local_path(config.spec.model.uri) if config.spec.model.uri else None
    if folder is None:
        return None
    try:
        settings = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None  # opening the model says so with all that belongs to it
    return settings if isinstance(settings, dict) else None


def refuse_hopeless(config: JobConfig, settings: Mapping[str, Any] | None) -> None:
    """Fail if a job cannot fit however short its rows are, before anything large is fetched or made.

    Args:
        config: The job.
        settings: Configuration of its model; None if it is not known, or for a model from scratch.

    Raises:
        StageError: DOES_NOT_FIT, with the numbers and the nearest configurations that do fit.
    """
    machines = _machines()
    scratch = config.spec.model.scratch
    if scratch is not None:
        smallest = scratch.model_copy(update={"vocab_size": _SMALL_VOCABULARY})
        shape = _known(lambda: ModelShape.of_scratch(smallest))
    else:
        shape = _shape_of(settings)
    if shape is not None and machines:
        _fitting(config, shape, _SHORT, machines)


def model_shape(folder: Path) -> ModelShape | None:
    """Return the sizes of a model that is there; None if the planner does not know its architecture."""
    return _shape_of(json.loads((folder / "config.json").read_bytes()))


def make_plan(config: JobConfig, shape: ModelShape | None, data: DataShape) -> dict[str, Any] | None:
    """Return the plan of a job as it stands in a status's `plan`; None if nothing is known of the model or the machine.

    It is the same whenever it is made for the same job and machine.

    Args:
        config: The job.
        shape: Its model.
        data: Its training rows.

    Raises:
        StageError: DOES_NOT_FIT, with the numbers and the nearest configurations that do fit.
    """
    machines = _machines()
    if shape is None or not machines:
        return None
    plan = _fitting(config, shape, data, machines)
    if plan is None:
        return None
    if plan.machine.name == OWN_MACHINE:
        _warn(plan)
    return plan.to_status()


def _machines() -> tuple[Machine, ...]:
    """Return the machines that training may run on; none if nothing is known of them.

    Raises:
        StageError: INVALID_SPEC: the variable is wrong.
    """
    table = os.environ.get(MACHINE)
    if table:
        try:
            return parse_machines(table)
        except ValueError as error:
            raise StageError(Reason.INVALID_SPEC, f"{MACHINE}: {error}", "Correct the table of machines") from None
    if os.environ.get(JOB_CONFIG) is not None:
        return ()  # a pod: training runs in another one
    return (own_machine(),)


def _shape_of(settings: Mapping[str, Any] | None) -> ModelShape | None:
    return None if settings is None else _known(lambda: ModelShape.from_config(settings))


def _known(shape: Callable[[], ModelShape]) -> ModelShape | None:
    """Return the sizes of a model; None if the planner does not know it, which is logged."""
    try:
        return shape()
    except UnknownModel as error:
        log.info("no plan: %s", error)
        return None


def _fitting(config: JobConfig, shape: ModelShape, data: DataShape, machines: tuple[Machine, ...]) -> Plan | None:
    """Return the plan of a job on one of the machines; None if the batch cannot be shared by the processes of any.

    Raises:
        StageError: It fits on none.
    """
    nodes = int(os.environ.get(NODES) or 1)
    found = choose(config.spec, shape, data, machines, nodes)
    if isinstance(found, Plan):
        return found
    if found.plan is None:
        if len(machines) == 1:
            micro_batch(config.spec, processes_on(config.spec, machines[0], nodes))
        return None
    machine = found.plan.machine
    if machine.name == OWN_MACHINE and not machine.gpus and _without_reserve(found.plan) <= machine.memory:
        return found.plan  # it may fit, and costs nobody else anything
    raise StageError(Reason.DOES_NOT_FIT, found.message, found.remedy)


def _without_reserve(plan: Plan) -> int:
    """Return the bytes that training on CPUs takes on one machine, without what the plan keeps free."""
    return plan.stages["train"].memory - plan.setup.processes * plan.rank.reserve


def _warn(plan: Plan) -> None:
    """Log a warning for each stage that needs more memory than this machine has, or has free at the moment."""
    hardware = read_hardware()
    for name, need in plan.stages.items():
        if need.memory > hardware.memory:
            log.warning(
                "%s is planned to take %s of memory, and this machine has %s",
                name, quantity(need.memory), quantity(hardware.memory),
            )  # fmt: skip
        elif name == "train" and need.memory > hardware.available:
            log.warning(
                "training is planned to take %s of memory, and %s are free at the moment: end other programs",
                quantity(need.memory), quantity(hardware.available),
            )  # fmt: skip
