"""The number of processors that this process can use."""

import os
from pathlib import Path


def available_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the processors by affinity and by the container's CPU limit (cgroup v2 or v1), at least 1.

    The limit matters: the kernel throttles threads beyond it in the middle of each step.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, min(cpus, int(quota))) if quota else cpus


def _quota(cgroup: Path) -> float | None:
    """Return the CPU limit in processors, or None if there is none."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if limit in ("max", "-1"):
        return None
    return int(limit) / int(period)
