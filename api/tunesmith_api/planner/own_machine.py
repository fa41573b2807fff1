"""The machine that this process runs on, as a row of the table of machines."""

from __future__ import annotations

from tunesmith_api.local.hardware import Hardware, read_hardware
from tunesmith_api.planner.machine import Machine

OWN_MACHINE = "this machine"
"""Its name in plans and messages."""


def own_machine(hardware: Hardware | None = None) -> Machine:
    """Return the machine that this process runs on.

    Args:
        hardware: What it has; found out by default.
    """
    hardware = hardware or read_hardware()
    return Machine(
        name=OWN_MACHINE,
        cpus=hardware.cpus,
        memory=hardware.memory,
        gpu=hardware.gpu,
        gpus=hardware.gpus,
        gpu_memory=hardware.gpu_memory or 0,
    )
