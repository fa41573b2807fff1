"""What the processors of this machine compute."""

from __future__ import annotations

import platform
from pathlib import Path

_SUMS_OF_BYTES = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})

INT8_PROCESSORS = (
    "a processor with AVX-512 VNNI, AVX-VNNI or AMX (Intel from Ice Lake on, AMD from Zen 4 on), whose sums of "
    "products do not overflow"
)
"""What a language model in int8 takes, for messages."""


def multiplies_bytes(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str = "") -> bool:
    """Return whether products of unsigned and signed bytes are summed without overflow.

    On x86 without VNNI, ONNX Runtime adds two products in 16 bits, which is too few for them.

    Args:
        cpuinfo: What the kernel says of the processors.
        machine: The kind of processor; this machine's by default.
    """
    if (machine or platform.machine()) not in ("x86_64", "AMD64"):
        return True
    try:
        flags = next(line for line in cpuinfo.read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return True
    return not _SUMS_OF_BYTES.isdisjoint(flags.split())
