"""The machines that a job is planned for: what its spec asks for, a table of the user's, or this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from tunesmith_api.objects.resources import AUTO_MACHINE, INSTANCE_TYPE_LABEL, NODE_POOL_LABEL, ResourcesSpec
from tunesmith_api.planner import MACHINES, Machine, own_machine, parse_machines
from tunesmith_api.spec.quantity import amount
from tunesmith_backend.interface.errors import BackendError

THIS = "this"
"""Stands for this machine in `--on`."""

_NOMINAL = 0.93  # of a GPU's nominal memory is there: drivers keep the rest
_ANY = 2**60  # bytes of a memory of which nothing is known


def read_machines(path: Path) -> tuple[Machine, ...]:
    """Return the machines of a file: a list as the chart's value `machines` has it, or a values file with that value.

    Raises:
        BackendError: The file cannot be read, or a row is wrong.
    """
    try:
        value = yaml.safe_load(path.read_bytes())
    except (OSError, ValueError, yaml.YAMLError) as error:
        what = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise BackendError(f"{path}: {what}; give a list of machines in YAML or JSON") from None
    rows = value.get("machines") if isinstance(value, dict) else value
    if not isinstance(rows, list) or not rows:
        raise BackendError(f"{path} holds no machines; write a list: [{{name: gpu, cpus: 24, memory: 220Gi, ...}}]")
    try:
        return parse_machines(rows)
    except ValueError as error:
        raise BackendError(f"{path}: {error}; correct the row") from None


def machines_for(resources: ResourcesSpec, table: Sequence[Machine], on: str | None) -> tuple[Machine, ...]:
    """Return the machines that a job may train on; the cheapest on which it fits is to be taken.

    Args:
        resources: What the job asks for.
        table: The machines that there are.
        on: Name of a machine that is taken whatever the job asks for; `this` for this machine.

    Raises:
        BackendError: There is no such machine.
    """
    if on is not None:
        return (own_machine(),) if on == THIS else (_named(on, table, f"--on {on}"),)
    if resources.machine is not None and resources.machine != AUTO_MACHINE:
        found: tuple[Machine, ...] = (_named(resources.machine, table, f"resources.machine: {resources.machine}"),)
    elif resources.machine == AUTO_MACHINE:
        found = tuple(table)
    elif resources.gpus_per_node or resources.instance_type or resources.node_pool:
        found = _described(resources, table)
    else:
        return (own_machine(),)
    if resources.memory is None:
        return found
    limit = int(amount(resources.memory))
    return tuple(machine.model_copy(update={"memory": min(machine.memory, limit)}) for machine in found)


def _named(name: str, table: Sequence[Machine], where: str) -> Machine:
    for machine in table:
        if machine.name == name:
            return machine
    names = ", ".join(machine.name for machine in table)
    raise BackendError(f"{where}: there is no such machine; there are {THIS} and {names}, or give --machines FILE")


def _described(resources: ResourcesSpec, table: Sequence[Machine]) -> tuple[Machine, ...]:
    """Return the machines of a table that have what a spec asks for, or one that has no more than that."""
    labels = {INSTANCE_TYPE_LABEL: resources.instance_type, NODE_POOL_LABEL: resources.node_pool}
    named = {label: value for label, value in labels.items() if value is not None}
    rows = [row for row in (*table, *MACHINES) if any((row.node_selector or {}).get(n) == v for n, v in named.items())]
    if rows:
        return (rows[0].model_copy(update={"gpus": resources.gpus_per_node}),)
    count, wanted = resources.gpus_per_node, resources.gpu
    asked = Machine(
        name=(wanted.product if wanted else None) or resources.instance_type or resources.node_pool or "any node",
        cpus=amount(resources.cpu) if resources.cpu else 1,
        memory=_ANY,
        gpu=wanted.product if wanted else None,
        gpus=count,
    )
    least = int((wanted.min_memory_gib or 0) * _NOMINAL * 2**30) if wanted else 0
    fitting = [
        row
        for row in table
        if not named
        and row.gpus == count
        and row.memory_of_gpu >= least
        and (asked.gpu is None or row.gpu == asked.gpu or (asked.device is not None and row.device == asked.device))
    ]
    if fitting:
        return tuple(fitting)
    return (asked if asked.memory_of_gpu or not count else asked.model_copy(update={"gpu_memory": least or _ANY}),)
