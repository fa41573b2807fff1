"""What this machine has: memory, CPUs and GPUs, as far as processes here may use them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
_SECONDS = 20.0  # a driver that is being loaded takes some
_UNLIMITED = 1 << 60  # cgroup v1 writes a number about this large where there is no limit


@dataclass(frozen=True)
class Hardware:
    """The hardware of a machine.

    Attributes:
        memory: Bytes that processes may use: the limit of the cgroup, or the machine's memory.
        available: Bytes of them that are free at the moment.
        cpus: CPUs that processes may use.
        gpu: Name of the GPUs, as the node label nvidia.com/gpu.product has it; None without a GPU.
        gpus: Number of GPUs.
        gpu_memory: Bytes of one GPU, the smallest where they differ; None without a GPU.
    """

    memory: int
    available: int
    cpus: int
    gpu: str | None = None
    gpus: int = 0
    gpu_memory: int | None = None


def read_hardware(root: Path = Path("/")) -> Hardware:
    """Return what this machine has.

    Args:
        root: Folder with `proc` and `sys`.
    """
    total, available = _memory(root)
    for limit, used in _cgroup_memory(root):
        if limit < total:
            total, available = limit, min(available, max(0, limit - used))
    names_and_sizes = _gpus()
    return Hardware(
        memory=total,
        available=available,
        cpus=_cpus(root),
        gpu=names_and_sizes[0][0] if names_and_sizes else None,
        gpus=len(names_and_sizes),
        gpu_memory=min((size for _, size in names_and_sizes), default=None),
    )


def _memory(root: Path) -> tuple[int, int]:
    """Return the machine's memory in bytes: all of it, and what is free or can be freed."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return size, size
    fields = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines) if rest}
    return fields["MemTotal"], fields.get("MemAvailable", fields["MemTotal"])


def _cgroup_memory(root: Path) -> Iterator[tuple[int, int]]:
    """Yield the limit and the use of each cgroup that this process is in, in bytes without what can be freed."""
    for folder, limit, used, cache in (
        *((folder, "memory.max", "memory.current", "inactive_file") for folder in _cgroups(root, "")),
        *(
            (folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            for folder in _cgroups(root, "memory")
        ),
    ):
        size = _number(folder / limit)
        if size is not None and size < _UNLIMITED:
            yield size, max(0, (_number(folder / used) or 0) - _statistic(folder / "memory.stat", cache))


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the cgroups of this process: its own, and those around it.

    Args:
        root: Folder with `proc` and `sys`.
        controller: Name of a controller of cgroup v1; empty for v2.
    """
    mount = root / "sys/fs/cgroup" / controller
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            own = mount / path.lstrip("/")
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(mount) and folder.is_dir())


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # absent, or `max`
        return None


def _statistic(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)


def _cpus(root: Path) -> int:
    """Return the CPUs that this process may use, at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _cgroups(root, ""):
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            count = min(count, max(1, -(-int(quota) // int(period))))
        except (OSError, ValueError):  # absent, or `max`
            continue
    for folder in _cgroups(root, "cpu"):
        share, length = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if share is not None and length and share > 0:
            count = min(count, max(1, -(-share // length)))
    return count


def _gpus() -> list[tuple[str, int]]:
    """Return the name and the bytes of each NVIDIA GPU that processes may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return []
    try:
        printed = subprocess.run(_NVIDIA_SMI, capture_output=True, text=True, timeout=_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in printed.splitlines():
        name, _, size = line.rpartition(",")
        if size.strip().isdigit():
            found.append((name.strip().replace(" ", "-"), int(size) << 20))
    return found if visible is None else found[: len(visible.split(","))]
