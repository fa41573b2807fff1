"""Measures a stage while it runs: the peak memory of its processes, and its duration, over all attempts.

`measured.json` in the stage's folder has the result as a job's status shows it. It is apart from `stage.json`, which is
the same in every run of a job. `attempts.json` has more, in bytes and seconds, and is written while the stage runs, so
that an attempt that is killed counts too.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith_api.local.files import read_json, write_json
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.runtime.process_memory import (
    Memory,
    cgroup_peak,
    largest_of_one,
    process_tree,
    proportional,
    resident,
)

log = logging.getLogger(__name__)

_SAMPLE_SECONDS = 0.2
_SHARE = 0.05  # of one processor, which sampling takes at most
_WRITE_SECONDS = 5.0
_SOON_SECONDS = 0.5  # the same when the peak has grown
_GROWTH = 1.02


def attempts_file(work: WorkFolder, stage: Stage, node_rank: int = 0) -> Path:
    """Return the file with what a node has measured in all attempts at a stage."""
    return work.stage(stage) / (f"attempts-{node_rank}.json" if node_rank else "attempts.json")


class StageMeter:
    """Samples the memory of this process and its descendants in a thread."""

    def __init__(self, file: Path) -> None:
        """Continue with what earlier attempts have measured.

        Args:
            file: The file of `attempts_file`.
        """
        self._file = file
        self._before: Mapping[str, Any] = read_json(file) or {}
        self._sampled = Memory()
        self._largest_of_one = 0
        # What this process has had before counts only once it has more.
        self._before_start = largest_of_one([os.getpid()])
        self._started = time.monotonic()
        self._written, self._written_peak = 0.0, 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> dict[str, Any]:
        """Stop the thread, and write and return what was measured in all attempts; see `values`."""
        self._end.set()
        self._thread.join()
        self._sample()
        return self._write()

    def values(self) -> dict[str, Any]:
        """Return `{memory, anonymousMemory, cgroupMemory?, seconds, attempts}`, in bytes and seconds.

        `memory` and `anonymousMemory` are the peaks of the process tree (see `process_memory`); `cgroupMemory` is that
        of the container, page cache included.
        """
        seconds = float(self._before.get("seconds", 0)) + time.monotonic() - self._started
        found = {
            "memory": max(self._sampled.total, self._largest_of_one, int(self._before.get("memory", 0))),
            "anonymousMemory": max(self._sampled.anonymous, int(self._before.get("anonymousMemory", 0))),
            "seconds": round(seconds, 3),
            "attempts": int(self._before.get("attempts", 0)) + 1,
        }
        container = max(cgroup_peak() or 0, int(self._before.get("cgroupMemory", 0)))
        return {**found, **({"cgroupMemory": container} if container else {})}

    def _run(self) -> None:
        pause = 0.0
        while not self._end.wait(pause):
            began, used = time.monotonic(), time.thread_time()
            self._sample()
            has_grown = max(self._sampled.total, self._largest_of_one) > self._written_peak * _GROWTH
            if began - self._written >= (_SOON_SECONDS if has_grown else _WRITE_SECONDS):
                self._write()
            pause = max(_SAMPLE_SECONDS, (time.thread_time() - used) / _SHARE)

    def _sample(self) -> None:
        try:
            processes = process_tree(os.getpid())
        except OSError:  # there is no /proc
            return
        # Never less than the proportional size, and much quicker.
        if resident(processes) > self._sampled.total:
            self._sampled = self._sampled.largest(proportional(processes))
        one = largest_of_one(processes)
        if one > self._before_start:
            self._largest_of_one = max(self._largest_of_one, one)

    def _write(self) -> dict[str, Any]:
        values = self.values()
        self._written, self._written_peak = time.monotonic(), values["memory"]
        try:
            write_json(self._file, values, sync=False)
        except OSError as problem:  # the stage's own files will tell
            log.debug("%s cannot be written: %s", self._file, problem)
        return values


@contextmanager
def measuring(work: WorkFolder, stage: Stage, node_rank: int = 0) -> Iterator[None]:
    """Measure what runs in this context, on one node. Node 0 also writes `measured.json`.

    Args:
        work: The work folder.
        stage: The stage.
        node_rank: Index of this node.
    """
    if node_rank == 0:
        work.measured(stage).unlink(missing_ok=True)
    meter = StageMeter(attempts_file(work, stage, node_rank))
    meter.start()
    try:
        yield
    finally:
        values = meter.stop()
        if node_rank == 0 and work.stage(stage).is_dir():
            _write_measured(work, stage, values)


def read_measured(work: WorkFolder, stage: Stage) -> dict[str, Any]:
    """Return what was measured of a stage, as a job's status shows it: until now, if it runs; {} if nothing was."""
    finished: dict[str, Any] | None = read_json(work.measured(stage))
    if finished is not None:
        return finished
    values = read_json(attempts_file(work, stage))
    return as_status(values, {}) if values else {}


def quantity(size: float) -> str:
    """Return a number of bytes as a Kubernetes quantity, rounded up to a MiB, from 1 GiB on to a tenth of a GiB."""
    if size < 1 << 30:
        return f"{-int(-size // (1 << 20))}Mi"
    return f"{-int(-size * 10 // (1 << 30)) / 10:g}Gi"


def as_status(values: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was measured, as a job's status shows it.

    Args:
        values: What node 0 has measured.
        trained: train/metrics.json, with the largest values of all nodes and processes; empty for other stages.
    """
    nodes = trained.get("nodes") or {}
    sizes = {"memory": max(values["memory"], nodes.get("memory", 0)), "gpuMemory": trained.get("gpuMemoryBytes") or 0}
    found: dict[str, Any] = {name: quantity(size) for name, size in sizes.items() if size}
    found["seconds"] = round(values["seconds"], 1)
    if trained.get("secondsPerStep") is not None:
        found["secondsPerStep"] = trained["secondsPerStep"]
    return found


def _write_measured(work: WorkFolder, stage: Stage, values: Mapping[str, Any]) -> None:
    trained = (read_json(work.stage(stage) / "metrics.json") or {}) if stage is Stage.TRAIN else {}
    found = as_status(values, trained)
    write_json(work.measured(stage), found)
    sizes = (found.get("memory", "?"), quantity(values["anonymousMemory"]))
    log.info(
        "%s took %.1f s and at most %s of memory (%s of it not mapped files)", stage.value, found["seconds"], *sizes
    )
