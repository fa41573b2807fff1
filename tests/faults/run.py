"""Runs faults and tells where each was stopped; as a command it prints the table of docs/faithful.md.

.venv/bin/python -m pytest tests/faults      # the same, as tests
make faults                                  # the table, and 100 clean jobs
"""

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from faults.corpus import FAULTS, Fault
from faults.jobs import FAMILIES, Snapshots, copy_of, open_served, run_stages, write_base, write_job
from tunesmith_api.failures import StageError
from tunesmith_api.work_folder import Stage

METHODS = ("lora", "dora", "full")
CLEAN_JOBS = 100


class Stop(NamedTuple):
    """Where a job was stopped, and why."""

    where: str
    reason: str
    message: str


def run_fault(fault: Fault, snapshots: Snapshots, folder: Path, patch: pytest.MonkeyPatch) -> Stop:
    """Run a job up to where the fault arises, put it in, and run the rest up to the opening by the server."""
    from tunesmith_serving.runtime.errors import ServingError

    options = dict(fault.job)
    published = options.pop("published", False)
    done = 3 if published or fault.before is None else list(Stage).index(fault.before)
    work = copy_of(snapshots.after(done, fault.method, fault.base, options), folder)
    fault.inject(work, patch)
    for stage in list(Stage)[list(Stage).index(fault.before) :] if fault.before else []:
        try:
            run_stages(work, stage)
        except StageError as error:
            return Stop(stage.value, error.reason.value, str(error))
    try:
        open_served(work)
    except ServingError as error:
        return Stop("server", "", str(error))
    return Stop("", "", "nothing stopped it")


def run_clean(number: int, folder: Path) -> None:
    """Run a clean job; families, methods, number formats and seeds take turns."""
    architecture, dtype = FAMILIES[number % len(FAMILIES)], "bfloat16" if number % 3 == 2 else "float32"
    base = write_base(folder / "base", architecture, seed=number, dtype=dtype)
    work = write_job(folder / "work", base, METHODS[number // len(FAMILIES) % len(METHODS)], system=number % 2 == 1)
    run_stages(work, *Stage)
    open_served(work)


def main() -> int:
    """Print the table, then run the clean jobs."""
    print("| fault | stopped in | reason | message begins |")
    print("|---|---|---|---|")
    failed = 0
    with tempfile.TemporaryDirectory() as root:
        snapshots = Snapshots(Path(root) / "snapshots")
        for index, fault in enumerate(FAULTS):
            with pytest.MonkeyPatch.context() as patch:
                stop = run_fault(fault, snapshots, Path(root) / f"fault-{index}", patch)
            failed += not stop.where
            message = stop.message.replace(root, "...").replace("|", "\\|")
            print(f"| {fault.name} | {stop.where} | {f'`{stop.reason}`' if stop.reason else ''} | {message[:120]} |")
            sys.stdout.flush()
    clean = 0
    for number in range(CLEAN_JOBS):
        with tempfile.TemporaryDirectory() as root:
            try:
                run_clean(number, Path(root))
                clean += 1
            except StageError as error:
                print(f"clean job {number} was stopped: {error.reason}: {error}")
    print(f"{len(FAULTS) - failed} of {len(FAULTS)} faults stopped; {clean} of {CLEAN_JOBS} clean jobs served")
    return int(failed > 0 or clean < CLEAN_JOBS)


if __name__ == "__main__":
    sys.exit(main())
