"""Child processes: started so that they never outlive us, ended so that they can finish what they hold."""

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
        module: The module to run, with the interpreter that runs us.
        arguments: Its arguments.
        log: File that takes its output (appended); by default the output is ours, so that a terminal shows bars.
        env: Variables on top of ours.
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
    """Wait for a process, calling `tick` now and then, and return its exit code.

    On Ctrl-C, or any other error here, the process is stopped before the error goes on.
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
    """End a process with SIGTERM, after `grace` seconds or a second Ctrl-C with SIGKILL, and return its exit code."""
    if process.poll() is None:
        process.terminate()
    deadline = time.monotonic() + grace
    try:
        return process.wait(max(0.0, deadline - time.monotonic()))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        return process.wait()
