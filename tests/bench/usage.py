"""What processes use of the machine, and what the operator has asked of the API server."""

from __future__ import annotations

import os
import re
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from cluster.state import State
from support.operator_process import OperatorProcess

_TICKS = os.sysconf("SC_CLK_TCK")
_QUIET_SECONDS = 2.0


@dataclass
class Usage:
    """What the operator has used, and what it has asked of the API server.

    Attributes:
        cpu: CPU seconds.
        peak: Largest resident memory, bytes.
        requests: Requests by (verb, resource).
        reconciles: Reconciles that ended.
        waiting: Keys that wait or are worked on.
    """

    cpu: float
    peak: int
    requests: dict[tuple[str, str], float]
    reconciles: float
    waiting: float


def usage(operator: OperatorProcess) -> Usage:
    """Return what the operator has used until now."""
    with urllib.request.urlopen(f"http://127.0.0.1:{operator.port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    requests: dict[tuple[str, str], float] = {}
    for labels, value in re.findall(r"^tunesmith_api_requests_total\{(.*)\} (\S+)$", text, re.M):
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        key = (named["verb"], named["resource"])
        requests[key] = requests.get(key, 0) + float(value)
    total = lambda name: sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))  # noqa: E731
    return Usage(
        cpu=cpu_of(operator.pid),
        peak=peak_of(operator.pid),
        requests=requests,
        reconciles=total("tunesmith_reconciles_total"),
        waiting=total("tunesmith_queue_depth") + total("tunesmith_queue_running"),
    )


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_of(pid: int) -> int:
    """Return the largest resident memory that a process has had, bytes."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(peak.group(1)) * 1024 if peak else 0


class ControlPlane:
    """The CPU that a cluster's own processes use meanwhile: what a burst's time is mostly made of."""

    def __init__(self, name: str) -> None:
        state = State.load(name)
        assert state is not None
        self._pids = {key: process.pid for key, process in state.processes.items()}
        self._before = {key: cpu_of(pid) for key, pid in self._pids.items()}

    def since(self, count: int) -> str:
        """Return what was used since this was made, for each of so many objects."""
        used = {key: cpu_of(pid) - self._before[key] for key, pid in self._pids.items()}
        return ", ".join(f"{key} {1000 * value / count:.1f} ms" for key, value in used.items())


def until_quiet(operator: OperatorProcess, timeout: float = 300) -> tuple[Usage, float]:
    """Wait until the operator has had nothing to do for a while; return its usage and when that began."""
    deadline = time.monotonic() + timeout
    last, since = usage(operator), time.monotonic()
    while time.monotonic() - since < _QUIET_SECONDS:
        if time.monotonic() > deadline:
            raise SystemExit(f"the operator has not come to rest within {timeout:g} s")
        time.sleep(0.25)
        now = usage(operator)
        if now.waiting or now.reconciles != last.reconciles:
            last, since = now, time.monotonic()
    return last, since
