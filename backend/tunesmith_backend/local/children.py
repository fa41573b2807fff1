"""Child processes that never outlive this process, and that get time to finish when they are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from tunesmith_api.local.processes import die_with_parent

_GRACE_SECONDS = 90.0


def start(
    module: str, arguments: Sequence[str], *, log: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `python -m module arguments` and return the process.

    Args:
        module: The module to run, with this process's interpreter.
        arguments: Its arguments.
        log: File that its output is appended to; by default it inherits our output, so a terminal shows bars.
        env: Environment variables, in addition to ours.
    """
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, **(env or {})}
    at_start = partial(die_with_parent, os.getpid(), signal.SIGTERM)
    if log is None:
        return subprocess.Popen(command, env=environment, preexec_fn=at_start)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT, preexec_fn=at_start)


def wait(process: subprocess.Popen[bytes], tick: Callable[[], None], every: float = 0.5) -> int:
    """Wait for a process, calling `tick` every `every` seconds, and return its exit code.

    On Ctrl-C, or an error raised by `tick`, the process is stopped before the error is raised again.
    """
    try:
        while True:
            try:
                return process.wait(every)
            except subprocess.TimeoutExpired:
                tick()
    except BaseException:
        stop(process)
        raise


def stop(process: subprocess.Popen[bytes], grace: float = _GRACE_SECONDS) -> int:
    """Stop a process with SIGTERM, or with SIGKILL after `grace` seconds or Ctrl-C, and return its exit code."""
    if process.poll() is None:
        process.terminate()
    deadline = time.monotonic() + grace
    try:
        return process.wait(max(0.0, deadline - time.monotonic()))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        return process.wait()
