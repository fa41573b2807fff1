"""The machines that a job can run on, and the administrator's table of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from tunesmith_api.objects.pod_template import Labels, Toleration
from tunesmith_api.objects.resources import DEFAULT_GPU_RESOURCE, INSTANCE_TYPE_LABEL
from tunesmith_api.planner.devices import DEVICES, Device, device_of
from tunesmith_api.spec import SpecModel
from tunesmith_api.spec.quantity import amount


def _bytes(value: object) -> object:
    """Return the bytes that a quantity such as `64Gi` means."""
    return int(amount(value)) if isinstance(value, str) else value


def _cpus(value: object) -> object:
    """Return the CPUs that a quantity such as `500m` means."""
    return amount(value) if isinstance(value, str) else value


class Machine(SpecModel):
    """A kind of machine: a row of the administrator's table, or what a process has found out about its own machine."""

    name: str = Field(min_length=1, max_length=253, description="Its name, as resources.machine has it.")
    cpus: Annotated[float, BeforeValidator(_cpus), Field(gt=0, description="CPUs.")]
    memory: Annotated[int, BeforeValidator(_bytes), Field(gt=0, description="Bytes of memory.")]
    gpu: str | None = Field(default=None, max_length=253, description="Model of its GPUs.")
    gpus: int = Field(default=0, ge=0, le=64, description="Number of its GPUs.")
    gpu_memory: Annotated[int, BeforeValidator(_bytes), Field(ge=0, description="Bytes of one GPU.")] = 0
    price_per_hour: float | None = Field(default=None, ge=0, description="Price of an hour, in any currency.")
    node_selector: Labels | None = Field(default=None, description="Labels of its nodes.")
    tolerations: tuple[Toleration, ...] | None = Field(default=None, description="Taints of its nodes to tolerate.")
    resource_name: str = Field(default=DEFAULT_GPU_RESOURCE, description="Resource that stands for a GPU.")

    @property
    def device(self) -> Device | None:
        """The known GPU that it has; None without GPU, or with one that is not known."""
        return device_of(self.gpu, self.gpu_memory) if self.gpus else None

    @property
    def memory_of_gpu(self) -> int:
        """Bytes of one of its GPUs, from the table of known GPUs where it does not say; 0 without GPU."""
        if not self.gpus:
            return 0
        return self.gpu_memory or (self.device.memory if self.device else 0)

    @property
    def has_bf16(self) -> bool:
        """Whether its GPUs compute in bf16; one that is not known is taken to do so."""
        return self.gpus > 0 and (self.device is None or self.device.has_bf16)


_TABLE = TypeAdapter(tuple[Machine, ...])


def parse_machines(table: str | Sequence[Any]) -> tuple[Machine, ...]:
    """Return the machines of a table.

    Args:
        table: JSON, or a list that has been read already; its rows have the fields of `Machine`.

    Raises:
        ValueError: A row is wrong; the text names the row and the field.
    """
    try:
        rows = json.loads(table) if isinstance(table, str) else list(table)
    except json.JSONDecodeError as error:
        raise ValueError(f"machines: not JSON: {error}") from error
    try:
        machines = _TABLE.validate_python(rows)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise ValueError(f"machines{place}: {first['msg']}") from error
    for index, machine in enumerate(machines):
        if machine.name in {other.name for other in machines[:index]}:
            raise ValueError(f"machines[{index}].name: {machine.name} is there twice; rename or remove one")
        if machine.gpus and not machine.memory_of_gpu:
            raise ValueError(
                f"machines[{index}].gpuMemory: {machine.gpu or 'the GPU'} is not known; write gpuMemory, such as 40Gi"
            )
    return machines


def _aks(name: str, cpus: int, memory: int, gpu: str | None = None, gpus: int = 0) -> Machine:
    """Return an AKS size; the kubelet and the system keep about a tenth of its memory."""
    return Machine(
        name=name,
        cpus=cpus,
        memory=int(memory * 0.9 * 2**30),
        gpu=gpu,
        gpus=gpus,
        gpu_memory=DEVICES[gpu].memory if gpu else 0,
        node_selector={INSTANCE_TYPE_LABEL: name},
    )


MACHINES: tuple[Machine, ...] = (
    _aks("Standard_D4s_v5", 4, 16),
    _aks("Standard_D8s_v5", 8, 32),
    _aks("Standard_D16s_v5", 16, 64),
    _aks("Standard_E16s_v5", 16, 128),
    _aks("Standard_NC4as_T4_v3", 4, 28, "T4", 1),
    _aks("Standard_NC64as_T4_v3", 64, 440, "T4", 4),
    _aks("Standard_NV36ads_A10_v5", 36, 440, "A10", 1),
    _aks("Standard_NV72ads_A10_v5", 72, 880, "A10", 2),
    _aks("Standard_NC24ads_A100_v4", 24, 220, "A100-80GB", 1),
    _aks("Standard_NC48ads_A100_v4", 48, 440, "A100-80GB", 2),
    _aks("Standard_NC96ads_A100_v4", 96, 880, "A100-80GB", 4),
    _aks("Standard_ND96asr_v4", 96, 900, "A100-40GB", 8),
    _aks("Standard_ND96amsr_A100_v4", 96, 1900, "A100-80GB", 8),
    _aks("Standard_NC40ads_H100_v5", 40, 320, "H100-NVL", 1),
    _aks("Standard_NC80adis_H100_v5", 80, 640, "H100-NVL", 2),
    _aks("Standard_ND96isr_H100_v5", 96, 1900, "H100-80GB", 8),
    _aks("Standard_ND96isr_H200_v5", 96, 1850, "H200", 8),
)
"""Usual AKS sizes (https://learn.microsoft.com/azure/virtual-machines/sizes/overview), without prices."""
