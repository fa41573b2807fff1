"""GPUs as their makers publish them. Memory is what a driver reports, less than the nominal size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

_GIB = 2**30


@dataclass(frozen=True)
class Device:
    """A model of GPU.

    Attributes:
        name: Short name.
        memory: Bytes of its memory.
        tflops: Dense bf16 TFLOP/s (fp16 where it has no bf16).
        bandwidth: Bytes a second between its memory and its processors.
        has_bf16: Whether it computes in bf16.
        link: Bytes a second to another GPU of the same machine, one way.
        source: Where the figures are from.
    """

    name: str
    memory: int
    tflops: float
    bandwidth: float
    has_bf16: bool = True
    link: float = 25e9
    source: str = ""


_NVIDIA = "https://www.nvidia.com/en-us/data-center/"

DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device("T4", 15 * _GIB, 65, 320e9, has_bf16=False, link=12e9, source=_NVIDIA + "tesla-t4/"),
        Device("V100-16GB", 16 * _GIB, 125, 900e9, has_bf16=False, link=150e9, source=_NVIDIA + "v100/"),
        Device("V100-32GB", 32 * _GIB, 125, 900e9, has_bf16=False, link=150e9, source=_NVIDIA + "v100/"),
        Device("A10", 22 * _GIB, 125, 600e9, source=_NVIDIA + "products/a10-gpu/"),
        Device("L4", 22 * _GIB, 121, 300e9, source=_NVIDIA + "l4/"),
        Device("RTX-4090", 24 * _GIB, 165, 1008e9, source="https://images.nvidia.com/aem-dam/Solutions/geforce/ada/"),
        Device("L40S", 44 * _GIB, 362, 864e9, source=_NVIDIA + "l40s/"),
        Device("A100-40GB", 39 * _GIB, 312, 1555e9, link=300e9, source=_NVIDIA + "a100/"),
        Device("A100-80GB", 79 * _GIB, 312, 2039e9, link=300e9, source=_NVIDIA + "a100/"),
        Device("H100-80GB", 79 * _GIB, 989, 3350e9, link=450e9, source=_NVIDIA + "h100/"),
        Device("H100-NVL", 93 * _GIB, 835, 3900e9, link=300e9, source=_NVIDIA + "h100/"),
        Device("H200", 140 * _GIB, 989, 4800e9, link=450e9, source=_NVIDIA + "h200/"),
        Device("MI300X", 191 * _GIB, 1307, 5300e9, link=448e9, source="https://www.amd.com/en/products/accelerators/"),
    )
}
"""Known GPUs by short name."""

CPU_FLOPS = 50e9
"""FLOP/s of one CPU core that trains in fp32: 146 tokens/s of 135 million parameters on two (docs/benchmarks.md)."""


@lru_cache
def device_of(product: str | None, memory: int) -> Device | None:
    """Return the known GPU that a product's name means; None if it is not known.

    Args:
        product: As the label nvidia.com/gpu.product or a driver has it, such as `NVIDIA-A100-SXM4-80GB`.
        memory: Bytes of one GPU, which tell apart GPUs of one name; 0 if unknown.
    """
    if not product:
        return None
    words = set(product.upper().replace(" ", "-").replace("_", "-").split("-"))
    found = [device for device in DEVICES.values() if device.name.upper().split("-")[0] in words]
    if "4090" in words:
        found = [DEVICES["RTX-4090"]]
    if not found:
        return None
    if not memory:
        named = [device for device in found if set(device.name.upper().split("-")) <= words]
        return named[0] if named else found[0]
    return min(found, key=lambda device: abs(device.memory - memory))
