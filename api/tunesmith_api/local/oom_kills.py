"""How often the kernel has ended a process of this machine because memory ran out."""

from __future__ import annotations

from pathlib import Path


def oom_kills(root: Path = Path("/")) -> int:
    """Return the number since the machine was started; 0 where the kernel does not say.

    Args:
        root: Folder with `proc`.
    """
    try:
        lines = (root / "proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
