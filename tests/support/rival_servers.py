"""Servers of other projects, as processes, that a bench compares with this one's."""

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep


@contextmanager
def running(command: list[str], port: int, seconds: float, **variables: str) -> Iterator[tuple[str, int]]:
    """Run a server until the end of the context; yields its URL and process id once `/health` answers.

    Args:
        command: The command.
        port: The port of 127.0.0.1 that it listens on.
        seconds: How long it may take to start.
        **variables: More variables of its environment.
    """
    environment = {**os.environ, **variables}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = monotonic() + seconds
        while True:
            with suppress(OSError):
                urllib.request.urlopen(f"{url}/health", timeout=2).close()
                break
            if server.poll() is not None or monotonic() > deadline:
                raise SystemExit(f"{Path(command[0]).name} did not start")
            sleep(0.1)
        yield url, server.pid
    finally:
        server.terminate()
        server.wait(300)


def peak(pid: int) -> float:
    """The most memory that a process has had, in MiB; 0 of one that has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def run(command: list[str], cwd: Path | None = None, **variables: str) -> None:
    """Run a command to its end; the bench ends with what it has printed if it fails."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{shutil.which(command[0]) or command[0]} failed:\n{(done.stdout + done.stderr)[-3000:]}")
