"""Processes that outlive their starter, and are stopped only if they are still the ones that were started."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import ClusterError
from cluster.paths import MARK


@dataclass(frozen=True)
class Process:
    """One process, distinguished from a later one with the same number.

    Attributes:
        pid: Its number.
        started: When it was started, in clock ticks since boot (field 22 of /proc/PID/stat).
        boot: The kernel's boot id.
        argv: What it was started by, to start it again; empty for a process that is only watched.
    """

    pid: int
    started: int
    boot: str
    argv: tuple[str, ...] = ()

    @staticmethod
    def of(pid: int, argv: tuple[str, ...] = ()) -> "Process":
        """Return the process that has this number.

        Raises:
            ProcessLookupError: There is none.
        """
        stat = _stat(pid)
        if stat is None:
            raise ProcessLookupError(pid)
        return Process(pid, stat[1], boot_id(), argv)

    def alive(self) -> bool:
        """Return whether this very process runs (one that has ended and was not waited for does not)."""
        stat = _stat(self.pid)
        return stat is not None and stat[1] == self.started and self.boot == boot_id() and stat[0] not in "ZX"


def boot_id() -> str:
    """Return the ID of this machine's current boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> tuple[str, int] | None:
    """Return a process's state letter and start time."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[19])


def start(argv: list[str], log: Path, mark: Path, environment: dict[str, str] | None = None) -> Process:
    """Start a process in its own session, writing to `log`, marked as one of the cluster in the folder `mark`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    write = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        argv[0],
        argv,
        {**os.environ, **(environment or {}), MARK: str(mark)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), write, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
        setsigmask=[],
    )
    return Process.of(pid, tuple(argv))


def stop(processes: list[Process], grace: float = 10.0) -> None:
    """Terminate processes together; those that are alive after `grace` seconds are killed.

    Raises:
        ClusterError: One is still there 10 seconds after it was killed.
    """
    for signum, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        left = [process for process in processes if process.alive()]
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signum)
        deadline = time.monotonic() + patience
        while left and time.monotonic() < deadline:
            time.sleep(0.02)
            left = [process for process in left if process.alive()]
        if not left:
            break
    for process in processes:
        with suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)  # where this is the starter itself
    if left:
        raise ClusterError(f"Process {left[0].pid} cannot be killed: {' '.join(left[0].argv)}")


def marked(mark: Path) -> list[Process]:
    """Return all processes of the cluster in the folder `mark`, recorded or not."""
    entry = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):  # another user's, or ended meanwhile
            if entry in (folder / "environ").read_bytes().split(b"\0"):
                found.append(Process.of(int(folder.name)))
    return [process for process in found if process.pid != os.getpid()]
