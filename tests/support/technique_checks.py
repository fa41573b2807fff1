"""What must hold in each cell of the matrix of techniques."""

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from support.technique_cells import KILLED_AT, PROCESSES, SIZES, Cell, write_job
from support.technique_child import plain_name
from support.technique_runs import RunError, Runs, final_weights, losses
from support.training import random_rows, tiny_llama
from tunesmith_api.methods import METHODS

TOLERANCE = 1e-4

CHECKS = {
    "equal": "ends as ddp does",
    "moved": "every part moved, fp32",
    "resumed": "killed and resumed, bit-equal",
    "fewer": "resumed with one process",
    "bf16": "every part moved, bf16",
}
"""The checks and what each is called."""


@dataclass(frozen=True)
class Outcome:
    """The result of a check.

    Attributes:
        passed: Whether it holds.
        detail: What was compared, or what went wrong.
        value: The largest difference that was found, where there is one.
    """

    passed: bool
    detail: str = ""
    value: float | None = None


class Checker:
    """Runs the checks of cells; what cells share is made once."""

    def __init__(self, folder: Path, runs: Runs) -> None:
        """Make the base model.

        Args:
            folder: Where everything is written.
            runs: Runs the jobs.
        """
        self._folder = folder
        self._runs = runs
        self._base = tiny_llama(folder / "base", **SIZES)
        self._rows = random_rows(24)
        self._initial: dict[tuple[str, str], Path] = {}
        self._number = 0
        self._killed_cell: tuple[Cell, Path] | None = None
        self._kept: dict[tuple[Cell, int], Path | RunError] = {}

    def check(self, cell: Cell, only: tuple[str, ...] = tuple(CHECKS)) -> dict[str, Any]:
        """Return `{refused}` with the reason, or `{checks: {name: outcome}, seconds}`."""
        if reason := cell.refusal():
            return {"refused": reason}
        started, found = time.monotonic(), {}
        for name in only:
            if name == "bf16" and cell.offload != "none":
                continue
            try:
                found[name] = getattr(self, f"_{name}")(cell)
            except RunError as error:
                if error.reason == "InvalidSpec":
                    return {"refused": error.message}
                found[name] = Outcome(False, str(error))
        self._release(cell)
        checks = {name: vars(outcome) for name, outcome in found.items()}
        return {"checks": checks, "seconds": round(time.monotonic() - started, 1)}

    def _whole(self, cell: Cell, processes: int = PROCESSES) -> Path:
        """Return the work folder of a cell that was trained without a break."""
        key = (cell, processes)
        if key not in self._kept:
            try:
                work = self._job(cell)
                self._runs.train(work, processes=processes)
                self._kept[key] = work
            except RunError as error:
                self._kept[key] = error
        found = self._kept[key]
        if isinstance(found, RunError):
            raise found
        return found

    def _equal(self, cell: Cell) -> Outcome:
        """With two processes it ends as plain torch does; plain torch, as one process does."""
        work = self._whole(cell)
        if cell.strategy == "ddp":
            return _compare(work, self._whole(cell, 1), "one process")
        return _compare(work, self._whole(replace(cell, strategy="ddp", offload="none")), "ddp")

    def _moved(self, cell: Cell) -> Outcome:
        return self._all_moved(cell, self._whole(cell), "fp32")

    def _bf16(self, cell: Cell) -> Outcome:
        work = self._job(cell, precision="bf16")
        self._runs.train(work)
        outcome = self._all_moved(cell, work, "bf16")
        shutil.rmtree(work)
        return outcome

    def _all_moved(self, cell: Cell, work: Path, precision: str) -> Outcome:
        from safetensors.torch import load_file

        key = (cell.technique, precision)
        if key not in self._initial:
            path = self._folder / f"initial-{len(self._initial)}.safetensors"
            self._runs.initial(self._job(replace(cell, strategy="ddp", offload="none"), precision), path)
            self._initial[key] = path
        before = load_file(self._initial[key])
        after = {plain_name(name): weight for name, weight in final_weights(work).items()}
        missing = sorted(set(before) - set(after))
        shared = set(before) & set(after)
        # The model's own weights are kept as they were computed with; an adapter is merged in fp32.
        adapter = METHODS[cell.method].trains_adapter
        wrong = sorted(name for name in shared if adapter and str(after[name].dtype) != "torch.float32")
        still = sorted(name for name in shared if before[name].equal(_part(after[name], before[name])))
        if missing or wrong or still or not before:
            what = f"not saved: {missing[:2]}; not float32: {wrong[:2]}; still as it was: {still[:2]}"
            return Outcome(False, f"of {len(before)} tensors {what}")
        return Outcome(True, f"{len(before)} tensors")

    def _resumed(self, cell: Cell) -> Outcome:
        """Killed, and run again, it ends with the same bits."""
        whole, killed = self._whole(cell), self._killed(cell)
        self._runs.train(killed)
        first, second, same = final_weights(whole), final_weights(killed), losses(whole) == losses(killed)
        shutil.rmtree(killed)
        if not same:
            return Outcome(False, "the losses differ")
        if first.keys() != second.keys():
            return Outcome(False, "other tensors were saved")
        differ = sorted(name for name in first if not first[name].equal(second[name]))
        return Outcome(not differ, f"{differ[:2]} differ" if differ else f"{len(first)} tensors")

    def _fewer(self, cell: Cell) -> Outcome:
        """Killed, and run again with one process, it ends as with two."""
        work = self._killed(cell)
        self._runs.train(work, processes=1)
        outcome = _compare(work, self._whole(cell), "two processes")
        resumed = json.loads((work / "train" / "metrics.json").read_text()).get("resumedFromStep")
        shutil.rmtree(work)
        if not resumed:
            return Outcome(False, "it began anew")
        return outcome

    def _killed(self, cell: Cell) -> Path:
        """Return a copy of the work folder of a cell whose processes were killed."""
        if self._killed_cell is None or self._killed_cell[0] != cell:
            work = self._job(cell)
            self._runs.train(work, kill_at=KILLED_AT)
            self._killed_cell = cell, work
        self._number += 1
        return Path(shutil.copytree(self._killed_cell[1], self._folder / f"job-{self._number}"))

    def _job(self, cell: Cell, precision: str = "fp32") -> Path:
        self._number += 1
        work = self._folder / f"job-{self._number}"
        write_job(work, self._base, cell.spec(precision=precision), self._rows)
        self._runs.start(work)
        return work

    def _release(self, cell: Cell) -> None:
        """Remove what no other cell compares with."""
        if self._killed_cell is not None:
            shutil.rmtree(self._killed_cell[1])
            self._killed_cell = None
        for key, work in list(self._kept.items()):
            other = key[0].technique != cell.technique
            if isinstance(work, Path) and (other or (key[0] == cell and cell.strategy != "ddp")):
                shutil.rmtree(work)
                del self._kept[key]


def _part(saved: Any, first: Any) -> Any:
    """Return what was trained of a saved tensor, which may hold besides it what an adapter began with."""
    return saved[tuple(slice(0, size) for size in first.shape)].to(first.dtype)


def _compare(work: Path, other: Path, name: str) -> Outcome:
    """Return whether two runs had the same losses and ended with the same weights."""
    first, second = final_weights(work), final_weights(other)
    if first.keys() != second.keys():
        return Outcome(False, f"other tensors than with {name}")
    log, expected = losses(work), losses(other)
    if [entry[0] for entry in log] != [entry[0] for entry in expected]:
        return Outcome(False, f"other steps than with {name}")
    loss = max(abs(one[1] - two[1]) for one, two in zip(log, expected, strict=True))
    weight = max(float((first[key] - second[key]).abs().max()) for key in first)
    value = max(loss, weight)
    return Outcome(value <= TOLERANCE, f"from {name}: losses {loss:.1e}, weights {weight:.1e}", value)
