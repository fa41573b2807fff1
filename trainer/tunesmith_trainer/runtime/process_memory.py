"""Memory of a process and of all its descendants, read from Linux' /proc.

What counts is the proportional set size: a page that several processes have mapped, such as a library or a file of
weights, counts once in all. It is made of anonymous memory and of mapped files; the kernel can drop the pages of a
mapped file that nothing has written to, and read them again, so the anonymous part alone is given too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_KIB = 1024


@dataclass(frozen=True)
class Memory:
    """Bytes of resident memory.

    Attributes:
        total: Anonymous and shared memory, and mapped files.
        anonymous: What is not backed by a file: what a machine without swap must have.
    """

    total: int = 0
    anonymous: int = 0

    def largest(self, other: Memory) -> Memory:
        """Return the larger of each number."""
        return Memory(max(self.total, other.total), max(self.anonymous, other.anonymous))


def process_tree(root: int) -> list[int]:
    """Return a process and all its living descendants. Processes that end meanwhile may be missing.

    A process that is about to start another program is left out: until then it has the very memory of its parent
    (vfork), which would count twice.
    """
    children: dict[int, list[int]] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdecimal() and (parent := _parent(folder)) is not None:
            children.setdefault(parent, []).append(int(folder.name))
    found = [root]
    for process in found:  # grows while it is walked
        found.extend(child for child in children.get(process, ()) if not _is_starting(child, process))
    return found


def _is_starting(child: int, parent: int) -> bool:
    """Return whether a process has the same memory as its parent."""
    names = ("VmSize", "VmPeak", "VmData", "VmStk")
    own, parents = (_fields(_PROC / str(process) / "status") for process in (child, parent))
    return bool(own) and all(own.get(name) == parents.get(name) for name in names)


def resident(processes: Iterable[int]) -> int:
    """Return the sum of the processes' resident set sizes, in bytes. Quick; shared pages count once for each."""
    return sum(_status(process, "VmRSS") for process in processes)


def largest_of_one(processes: Iterable[int]) -> int:
    """Return the largest resident set size that any one of the processes has ever had, in bytes.

    The kernel keeps it, so it includes peaks between two samples.
    """
    return max((_status(process, "VmHWM") for process in processes), default=0)


def proportional(processes: Iterable[int]) -> Memory:
    """Return the memory of processes together, with shared pages counted once.

    Takes longer than `resident`, as the kernel visits all pages. A process whose pages may not be read counts with its
    resident set size, of which all that is not file-backed is anonymous.
    """
    total = anonymous = 0
    for process in processes:
        fields = _fields(_PROC / str(process) / "smaps_rollup")
        if "Pss" in fields:
            total += fields["Pss"]
            # Not all kernels have Pss_Anon (Linux 5.9).
            anonymous += fields.get("Pss_Anon", fields.get("Anonymous", 0)) + fields.get("Pss_Shmem", 0)
        else:
            status = _fields(_PROC / str(process) / "status")
            total += status.get("VmRSS", 0)
            anonymous += status.get("RssAnon", 0) + status.get("RssShmem", 0)
    return Memory(total, anonymous)


def cgroup_peak() -> int | None:
    """Return the peak of this container's cgroup in bytes, page cache included; None outside of a container.

    The root of a cgroup hierarchy has no `memory.peak` (version 2), and no limit (version 1).
    """
    peak = _number(Path("/sys/fs/cgroup/memory.peak"))
    if peak is not None:
        return peak
    old = Path("/sys/fs/cgroup/memory")
    limit = _number(old / "memory.limit_in_bytes")
    return _number(old / "memory.max_usage_in_bytes") if limit is not None and limit < 1 << 60 else None


def _parent(folder: Path) -> int | None:
    try:
        stat = (folder / "stat").read_text()
    except OSError:  # it has ended
        return None
    return int(stat.rpartition(")")[2].split()[1])  # the name before it may hold blanks and brackets


def _status(process: int, name: str) -> int:
    return _fields(_PROC / str(process) / "status").get(name, 0)


def _fields(path: Path) -> dict[str, int]:
    """Return the lines `NAME: NUMBER kB` of a file in bytes; none if it cannot be read."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:  # the process has ended, or belongs to another user
        return {}
    parts = [line.split() for line in lines if line.endswith(" kB")]
    return {name.rstrip(":"): int(number) * _KIB for name, number, _ in (part for part in parts if len(part) == 3)}


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
