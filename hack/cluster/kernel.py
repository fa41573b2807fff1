"""Kernel state that a node changes, and how it is restored: settings, cgroups, mounts."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from cluster.errors import CannotRunError, ClusterError

_SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    # What pods of one bridge send to each other passes the firewall, so that a Service's answers are translated back.
    "net.bridge.bridge-nf-call-iptables": "1",
    # The kubelet sets these.
    "vm.overcommit_memory": "1",
    "kernel.panic": "10",
    "kernel.panic_on_oops": "1",
}


def read_settings() -> dict[str, str]:
    """Return the current values of the settings that a node changes."""
    return {name: _sysctl(name).read_text().strip() for name in _SYSCTLS if _sysctl(name).exists()}


def change_settings() -> None:
    """Apply the settings that a node needs.

    Raises:
        CannotRunError: The kernel has no such setting, or may not be changed.
    """
    if not _sysctl("net.bridge.bridge-nf-call-iptables").exists():
        subprocess.run(["modprobe", "br_netfilter"], capture_output=True)
    write_settings(_SYSCTLS)


def write_settings(values: dict[str, str]) -> None:
    """Write the settings that differ."""
    for name, value in values.items():
        try:
            if _sysctl(name).read_text().strip() != value:
                _sysctl(name).write_text(value)
        except OSError as error:
            raise CannotRunError(f"The kernel's setting {name} cannot be made {value} ({error.strerror}).") from None


def make_cgroups(name: str) -> None:
    """Create the cgroup NAME, in which all pods run, in each hierarchy."""
    for hierarchy in _hierarchies():
        folder = hierarchy / name
        try:
            folder.mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if (hierarchy / setting).exists() and (folder / setting).exists():
                    (folder / setting).write_text((hierarchy / setting).read_text())
        except OSError as error:
            raise CannotRunError(f"The cgroup {folder} cannot be made ({error.strerror}); pods need it.") from None


def kill_cgroups(name: str, patience: float = 20.0) -> None:
    """Kill every process in the pods' cgroups: all of them belong to the cluster."""
    deadline = time.monotonic() + patience
    while pids := _pids(name):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise ClusterError(f"Processes of pods cannot be killed: {sorted(pids)}")
        time.sleep(0.02)


def remove_cgroups(name: str) -> None:
    """Remove the pods' cgroups, which must be empty."""
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy / name, topdown=False):
            os.rmdir(folder)


def unmount_below(*folders: Path) -> None:
    """Unmount everything mounted in folders, innermost first."""
    for _ in range(3):  # a mount can hide another one of the same place
        for place in sorted(mounts_below(*folders), key=len, reverse=True):
            subprocess.run(["umount", "--lazy", place], capture_output=True)
    if left := mounts_below(*folders):
        raise ClusterError(f"{left[0]} cannot be unmounted.")


def mounts_below(*folders: Path) -> list[str]:
    """Return the mount points in folders."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    places = [place.encode().decode("unicode_escape") for place in mounts]
    return [place for place in places if any(Path(place).is_relative_to(folder) for folder in folders)]


def cgroups(name: str) -> list[Path]:
    """Return the existing cgroups NAME."""
    return [hierarchy / name for hierarchy in _hierarchies() if (hierarchy / name).exists()]


def _sysctl(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def _hierarchies() -> list[Path]:
    lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(place) for _, place, kind, *_ in lines if kind in ("cgroup", "cgroup2")]


def _pids(name: str) -> set[int]:
    pids: set[int] = set()
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy / name):
            with suppress(OSError):
                pids |= {int(pid) for pid in Path(folder, "cgroup.procs").read_text().split()}
    return pids
