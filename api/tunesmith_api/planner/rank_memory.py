"""The memory of one process that trains: of its GPU, or on the CPU of the process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from tunesmith_api.planner.phase import Phase
from tunesmith_api.planner.plain import plain_phases
from tunesmith_api.planner.setup import Setup
from tunesmith_api.planner.shape import ModelShape
from tunesmith_api.planner.zero import zero_phases

_MIB = 2**20
CUDA_CONTEXT = 700 * _MIB
"""Bytes that a process takes on a GPU before it allocates anything: CUDA's context, NCCL's and cuBLAS's buffers."""

FRAGMENTATION = 0.06
"""Share of what is allocated that lies between the blocks that are in use."""

HEAP = 150 * 10**6
"""Bytes that the C library keeps on the CPU for small blocks, and that kernels take for themselves."""


@dataclass(frozen=True)
class RankMemory:
    """The memory of one process at its peak, in bytes.

    Attributes:
        phase: The part of a step in which the peak is, with what takes the memory there.
        reserve: What is kept free: fragmentation, and the CUDA context or the heap of the CPU.
        host: Bytes in the machine's memory instead of the GPU's.
    """

    phase: Phase
    reserve: int
    host: int = 0

    @property
    def allocated(self) -> int:
        """Bytes that the allocator has given out at the peak."""
        return self.phase.allocated

    @property
    def total(self) -> int:
        """Bytes with the reserve."""
        return self.allocated + self.reserve


def phases_of(shape: ModelShape, setup: Setup) -> list[Phase]:
    """Return the memory of one process in each part of a step."""
    return list(zero_phases(shape, setup) if setup.zero_stage else plain_phases(shape, setup))


@lru_cache(maxsize=4096)
def rank_memory(shape: ModelShape, setup: Setup) -> RankMemory:
    """Return the memory of one process that trains a model, at its peak.

    Args:
        shape: The model.
        setup: How it is trained.
    """
    phases = phases_of(shape, setup)
    phase = max(phases, key=lambda phase: phase.allocated)
    return RankMemory(phase, int(FRAGMENTATION * phase.allocated) + (CUDA_CONTEXT if setup.gpu else HEAP), phase.host)
