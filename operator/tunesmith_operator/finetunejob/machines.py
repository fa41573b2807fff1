"""The machines that a job may train on: rows of the administrator's table, or what its spec says of its nodes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tunesmith_api.choices.spread import micro_batch
from tunesmith_api.failures import StageError
from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.objects.resources import AUTO_MACHINE, INSTANCE_TYPE_LABEL, NODE_POOL_LABEL, ResourcesSpec
from tunesmith_api.planner import MACHINES, Machine, processes_on
from tunesmith_api.spec.quantity import amount
from tunesmith_operator.finetunejob.placement import USABLE_GPU_MEMORY

UNKNOWN = 2**60
"""Bytes of a memory that nothing is known of: whatever is needed fits."""

_GIB = 2**30
_ONLY_MEMORY = "a pod"
_NOTHING = "any node"
_PLACEHOLDERS = (_ONLY_MEMORY, _NOTHING)


def candidates(spec: FineTuneJobSpec, table: Sequence[Machine], chosen: str | None = None) -> tuple[Machine, ...]:
    """Return the machines that a job may train on, with the memory that it leaves its pods.

    Args:
        spec: The FineTuneJob's spec.
        table: The administrator's table.
        chosen: Machine that the job's plan has, for `machine: auto`.

    Returns:
        Several with `machine: auto` before it is planned; none if the table does not have the machine.
    """
    name = spec.resources.machine
    if name is None:
        return (_described(spec.resources, table),)
    if name == AUTO_MACHINE and chosen is None:
        return tuple(_limited(machine, spec.resources) for machine in _large_enough(table, spec.resources))
    wanted = chosen if name == AUTO_MACHINE else name
    return tuple(_limited(machine, spec.resources) for machine in table if machine.name == wanted)


def missing_machine(spec: FineTuneJobSpec, table: Sequence[Machine], chosen: str | None) -> str:
    """Return why the table does not have a job's machine."""
    names = ", ".join(machine.name for machine in table)
    has = f"has {names}" if names else "is empty"
    name = spec.resources.machine
    wanted = "" if name == AUTO_MACHINE and chosen is None else f" with a row {chosen or name}"
    asked = f"resources.machine is {name}, and the operator's table of machines {has}"
    return f"{asked}. Ask the administrator for the chart's value machines{wanted}, or write gpusPerNode: 1 instead"


def with_machine(spec: FineTuneJobSpec, machine: Machine) -> FineTuneJobSpec:
    """Return a spec that says itself what the machine of a table has: its GPUs, labels and taints."""
    resources = spec.resources
    changed = {
        "machine": None,
        "gpus_per_node": machine.gpus,
        "resource_name": machine.resource_name,
        "node_selector": {**(machine.node_selector or {}), **(resources.node_selector or {})} or None,
        "tolerations": (*(machine.tolerations or ()), *(resources.tolerations or ())) or None,
    }
    return spec.model_copy(update={"resources": resources.model_copy(update=changed)})


def batch_problem(spec: FineTuneJobSpec, machine: Machine) -> str | None:
    """Return why the processes of a table's machine cannot train a job together; None if they can."""
    each = spec.distributed.num_proc_per_node
    if each is not None and machine.gpus and each > machine.gpus:
        had = f"machine {machine.name} has {machine.gpus} GPUs"
        return f"spec.distributed.numProcPerNode: {each}, and {had}. Remove it for one process a GPU"
    try:
        micro_batch(spec, processes_on(spec, machine, spec.resources.nodes))
    except StageError as error:
        return f"on machine {machine.name}: {error}"
    return None


def is_known(machine: Machine) -> bool:
    """Return whether enough is known of a machine to say how long it takes."""
    return machine.gpu_memory != UNKNOWN if machine.gpus else machine.name not in _PLACEHOLDERS


def name_of(machine: Machine) -> str | None:
    """Return a machine's name; None if it stands for what is not known."""
    return None if machine.name in _PLACEHOLDERS else machine.name


def as_variable(machines: Sequence[Machine]) -> str:
    """Return machines as the variable `TUNESMITH_MACHINE` has them."""
    return json.dumps([machine.to_api() for machine in machines], separators=(",", ":"))


def _described(resources: ResourcesSpec, table: Sequence[Machine]) -> Machine:
    """Return what a spec without `machine` says of its machines."""
    known = _of_nodes(resources, table)
    wanted = resources.gpu
    product = wanted.product if wanted else None
    least = wanted.min_memory_gib if wanted else None
    named = known.name if known else product or (f"a GPU of {least} GiB" if least else None)
    found = Machine(
        name=named or (_ONLY_MEMORY if resources.memory else _NOTHING),
        cpus=amount(resources.cpu) if resources.cpu else known.cpus if known else 1,
        memory=known.memory if known else UNKNOWN,
        gpus=resources.gpus_per_node,
        gpu=product or (known.gpu if known else None),
        price_per_hour=known.price_per_hour if known and known.gpus == resources.gpus_per_node else None,
        resource_name=resources.resource_name,
    )
    if found.gpus and not found.memory_of_gpu:
        if least:
            # A larger GPU will do too, but this is what the job can be sure of.
            found = found.model_copy(update={"gpu_memory": int(least * USABLE_GPU_MEMORY * _GIB)})
        else:
            found = found.model_copy(update={"gpu_memory": known.memory_of_gpu if known and known.gpus else UNKNOWN})
    return _limited(found, resources)


def _of_nodes(resources: ResourcesSpec, table: Sequence[Machine]) -> Machine | None:
    """Return the row for the instance type or node pool that a spec names, as far as one is known."""
    labels = {INSTANCE_TYPE_LABEL: resources.instance_type, NODE_POOL_LABEL: resources.node_pool}
    for machine in (*table, *MACHINES):
        selector = machine.node_selector or {}
        if any(value is not None and selector.get(label) == value for label, value in labels.items()):
            return machine
    return None


def _limited(machine: Machine, resources: ResourcesSpec) -> Machine:
    """Return a machine with no more memory than its pods may take."""
    if resources.memory is None:
        return machine
    return machine.model_copy(update={"memory": min(machine.memory, int(amount(resources.memory)))})


def _large_enough(table: Sequence[Machine], resources: ResourcesSpec) -> Sequence[Machine]:
    """Return the machines that have as much memory as each pod asks for; all if none has."""
    asked = int(amount(resources.memory)) if resources.memory else 0
    return [machine for machine in table if machine.memory >= asked] or table
