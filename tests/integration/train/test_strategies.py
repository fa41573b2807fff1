"""Every strategy trains the same, goes on from checkpoints, and does so with another number of processes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.many_fits import fit_all
from support.technique_runs import Runs
from support.training import log_of

Job = Callable[..., Path]

TRAINING = {
    "maxSteps": 6,
    "globalBatchSize": 8,
    "learningRate": 0.01,
    "weightDecay": 0.1,
    "checkpoint": {"everySteps": 3},
}
CELLS = [("full", "zero1", "optimizer"), ("lora", "zero2", "none"), ("dora", "zero3", "all"), ("full", "zero3", "none")]


def make(job: Job, name: str, method: str, strategy: str, offload: str = "none", stop: int | None = None) -> Path:
    work = job(
        name,
        method=method,
        adapter=None if method == "full" else {"rank": 4},
        training=TRAINING,
        distributed={"numProcPerNode": 2, "strategy": strategy, "offload": offload},
    )
    if stop is not None:
        (work / "stop-after").write_text(str(stop))
    return work


def weights_of(work: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    (file,) = (work / "train" / "final").glob("*.safetensors")
    return dict(load_file(file))


def compare(work: Path, expected: Path, tolerance: float) -> None:
    import torch

    found, wanted = weights_of(work), weights_of(expected)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=tolerance, rtol=0, msg=f"{work.name}: {name}")
    for field in ("loss", "evalLoss", "gradNorm"):
        values = [[entry.get(field) for entry in log_of(folder)] for folder in (work, expected)]
        assert values[0] == pytest.approx(values[1], abs=tolerance), (work.name, field)
    rates = [[entry["learningRate"] for entry in log_of(folder)] for folder in (work, expected)]
    assert rates[0] == pytest.approx(rates[1], abs=1e-12), work.name


def train_cells(job: Job, runs: Runs, cells: list[tuple[str, str, str]]) -> None:
    """Train each cell and, for its method, ddp; all must end the same."""
    plain = {method: make(job, f"{method}-ddp", method, "ddp") for method in {cell[0] for cell in cells}}
    works = {cell: make(job, "-".join(cell), *cell) for cell in cells}
    fit_all(runs, [*plain.values(), *works.values()])
    for (method, strategy, offload), work in works.items():
        result = json.loads((work / "fit.json").read_text())
        assert result["strategy"] == strategy
        assert ("offload" in result["resolved"]) == (offload != "none")
        compare(work, plain[method], 1e-4)


def resume_cells(job: Job, runs: Runs, cells: list[tuple[str, str, str]]) -> None:
    """Go on from a checkpoint of two processes with two and with one, and from one of one process with two."""
    names = ["-".join(cell) for cell in cells]
    whole = [make(job, f"{name}-whole", *cell) for name, cell in zip(names, cells, strict=True)]
    of_two = [make(job, f"{name}-of-two", *cell, stop=4) for name, cell in zip(names, cells, strict=True)]
    of_one = [make(job, f"{name}-of-one", *cell, stop=4) for name, cell in zip(names, cells, strict=True)]
    fit_all(runs, [*whole, *of_two])
    with_one = [Path(shutil.copytree(work, f"{work}-with-one")) for work in of_two]
    for work in (*of_two, *with_one):
        assert "a checkpoint was saved" in json.loads((work / "fit.json").read_text())["error"]
        (work / "stop-after").unlink()
    fit_all(runs, [*with_one, *of_one], processes=1)
    for work in of_one:
        (work / "stop-after").unlink()
    fit_all(runs, [*of_two, *of_one])
    for expected, same, fewer, more in zip(whole, of_two, with_one, of_one, strict=True):
        for work in (same, fewer, more):
            assert json.loads((work / "train" / "metrics.json").read_text())["resumedFromStep"] >= 3
        compare(same, expected, 0)
        compare(fewer, expected, 1e-4)
        compare(more, expected, 1e-4)


def test_all_end_as_ddp_does(job: Job, runs: Runs) -> None:
    train_cells(job, runs, CELLS)


def test_any_number_of_processes_goes_on_from_a_checkpoint(job: Job, runs: Runs) -> None:
    resume_cells(job, runs, [("full", "ddp", "none"), ("lora", "zero2", "optimizer"), ("full", "zero3", "none")])
