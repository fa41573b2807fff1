"""A server as a child process, for tests that talk to it over HTTP."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType


def wait_until(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    """Return once `condition` holds; fail where it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


class ServingProcess:
    """`python -m tunesmith_serving` on a free loopback port, ready when the context is entered."""

    def __init__(
        self,
        artifact: Path,
        *options: str,
        env: dict[str, str] | None = None,
        program: tuple[str, ...] = ("-m", "tunesmith_serving"),
    ) -> None:
        command = [sys.executable, *program, "--artifact", str(artifact), "--port", "0", *options]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        )
        self.url = ""

    def __enter__(self) -> "ServingProcess":
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            _, stderr = self.process.communicate(timeout=300)
            raise AssertionError(f"the server did not start: {stderr}")
        self.url = line.split()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=300)


def drained(process: subprocess.Popen[str]) -> list[str]:
    """Read what a process writes to its standard error, so that it is never full; returns the lines, as they come."""
    lines: list[str] = []
    assert process.stderr is not None
    threading.Thread(target=lines.extend, args=(process.stderr,), daemon=True).start()
    return lines
