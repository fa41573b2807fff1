"""Runs a cell of the table of purposes: prepares, trains and publishes its job, and asks the real server."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from support.purpose_asks import ASK
from support.purpose_cells import Cell
from support.serving_process import ServingProcess
from support.technique_runs import RunError, Runs
from support.technique_tasks import write_task

ASKED = 4  # rows that the server is asked about
RIGHT = 2  # of them, at least
# The largest difference of an output is what the comparisons of all tasks have in common.
_DIFFERENCES = ("maxLogitDifference", "maxDifference")


class PurposeRunner:
    """Runs cells, one after the other; each kind of base model is made once."""

    def __init__(self, folder: Path, runs: Runs) -> None:
        """Make no model yet.

        Args:
            folder: Where everything is written.
            runs: Runs the stages.
        """
        self._folder = folder
        self._runs = runs
        self._number = 0

    def run(self, cell: Cell) -> dict[str, Any]:
        """Return what came of a cell.

        Returns:
            `{leftOut}` with the reason, or `{before, after, served, parity, asked, answered, right, seconds, failures}`
            with the values of the purpose's metric.
        """
        if cell.left_out:
            return {"leftOut": cell.left_out}
        base = self._base(cell.base)
        started = time.monotonic()
        self._number += 1
        work = write_task(self._folder / f"cell-{self._number}", cell.job(str(base)), cell.purpose.rows())
        found: dict[str, Any] = {"failures": []}
        try:
            for stage in ("prepare", "train", "publish"):
                self._runs.stage(work, stage)
            found |= self._published(cell, work)
            found |= self._asked(cell, work)
        except (RunError, AssertionError, ValueError) as error:
            found["failures"].append(str(error))
        shutil.rmtree(work)
        return found | {"seconds": round(time.monotonic() - started, 1)}

    def _base(self, kind: str) -> Path:
        folder = self._folder / f"base-{kind}"
        if not folder.exists():
            partial = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            self._runs.call("support.purpose_bases", "make_base", kind, partial)
            partial.rename(folder)
        return folder

    def _published(self, cell: Cell, work: Path) -> dict[str, Any]:
        """Return the metric before, after and served, the parity, and what of it is not as demanded."""
        published = json.loads((work / "publish" / "stage.json").read_text())
        purpose, metrics = cell.purpose, published["metrics"]
        before, after = (metrics[when].get(purpose.metric) for when in ("before", "after"))
        served = metrics.get("served", {}).get("fp32", {}).get(purpose.metric)
        failures = []
        if not purpose.met(before, after):
            failures.append(f"{purpose.metric} was {before} and is {after}, demanded is {purpose.demand()}")
        if served is not None and after is not None and abs(served - after) > 0.01 * max(1.0, abs(after)):
            failures.append(f"{purpose.metric} of the served bits is {served}, of the model {after}")
        parity = published["parity"].get("fp32", {})
        difference = next((parity[name] for name in _DIFFERENCES if name in parity), None)
        if difference is None:
            failures.append(f"the export was not compared: {sorted(parity)}")
        return {"before": before, "after": after, "served": served, "parity": difference, "failures": failures}

    def _asked(self, cell: Cell, work: Path) -> dict[str, Any]:
        """Return an answer of the server, and how many of a few are right."""
        _, validation = cell.purpose.rows()
        with ServingProcess(work / "artifact", "--model-name", "purpose", "--precision", "fp32") as server:
            answers = [ASK[cell.purpose.example](server.url, row) for row in validation[:ASKED]]
        right = sum(answer[2] for answer in answers)
        if right < RIGHT:
            raise ValueError(f"of {ASKED} answers of the server {right} are right: {answers[0]}")
        question, answer, _ = next(answer for answer in answers if answer[2])
        return {"asked": question, "answered": answer, "right": right}
