"""How much memory this process can still take."""

from pathlib import Path

_V2_LIMIT, _V2_USED = "memory.max", "memory.current"
_V1_LIMIT, _V1_USED = "memory.limit_in_bytes", "memory.usage_in_bytes"


def free_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that are free on this machine and below every limit of this process's cgroups.

    Args:
        root: Folder of /proc and /sys.

    Returns:
        None if the system does not say.
    """
    found = [size for size in (_available(root / "proc/meminfo"), *_below_limits(root)) if size is not None]
    return max(0, min(found)) if found else None


def _available(meminfo: Path) -> int | None:
    for line in _read(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return None


def _below_limits(root: Path) -> list[int]:
    """Return what each limit of a cgroup of this process leaves."""
    found = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        names = (_V1_LIMIT, _V1_USED) if controllers else (_V2_LIMIT, _V2_USED)
        # In a container the path may be the host's, while the mount shows the container's own group at its top.
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            left = _left(folder, *names)
            if left is not None:
                found.append(left)
            if folder == mount:
                break
    return found


def _left(folder: Path, limit_name: str, used_name: str) -> int | None:
    limit, used = _read(folder / limit_name).strip(), _read(folder / used_name).strip()
    if not (limit.isdecimal() and used.isdecimal()):
        return None
    # Pages of files that were not used lately are given up before a process is killed.
    cached = sum(
        int(value)
        for name, _, value in (line.partition(" ") for line in _read(folder / "memory.stat").splitlines())
        if name == ("inactive_file" if limit_name == _V2_LIMIT else "total_inactive_file")
    )
    return int(limit) - max(0, int(used) - cached)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
