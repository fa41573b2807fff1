"""Several processes learn what one process learns, step by step."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.technique_runs import Runs
from support.training import log_of, train

Run = Callable[[Path], dict[str, Any]]
Job = Callable[..., Path]

TRAINING = {"maxSteps": 6, "globalBatchSize": 8, "microBatchSize": 2, "learningRate": 0.01}


def make(job: Job, run_here: Run, method: str, strategy: str, processes: int) -> tuple[Path, Path]:
    """Make two work folders of a job: one that one process has trained, and one for several."""
    choices = {"method": method, "adapter": None if method == "full" else {"rank": 4}, "training": TRAINING}
    alone = job("alone", **choices)
    run_here(alone)
    return alone, job("several", **choices, distributed={"numProcPerNode": processes, "strategy": strategy})


def compare(alone: Path, work: Path, method: str) -> None:
    expected, entries = log_of(alone), log_of(work)
    for name, tolerance in (("loss", 1e-4), ("evalLoss", 1e-4), ("gradNorm", 1e-2), ("learningRate", 1e-12)):
        values = [entry[name] for entry in entries]
        assert values == pytest.approx([entry[name] for entry in expected], abs=tolerance), name
    assert [entry["tokens"] for entry in entries] == [entry["tokens"] for entry in expected]
    same_weights(alone, work, method)


def same_weights(first: Path, second: Path, method: str) -> None:
    import torch
    from safetensors.torch import load_file

    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    one, other = (load_file(work / "train" / "final" / name) for work in (first, second))
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert other[key].dtype == torch.float32
        torch.testing.assert_close(other[key], value, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("method", "strategy"), [("full", "ddp"), ("lora", "zero2")])
def test_two_processes(method: str, strategy: str, job: Job, run_here: Run) -> None:
    alone, work = make(job, run_here, method, strategy, 2)
    temporary = work.parent / "temporary"
    temporary.mkdir()
    done = train(work, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    assert list(temporary.iterdir()) == []
    marker = json.loads((work / "train" / "stage.json").read_text())
    assert (marker["worldSize"], marker["strategy"]) == (2, strategy)
    compare(alone, work, method)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "strategy", "processes"),
    [
        ("lora", "ddp", 2),
        ("full", "zero1", 2),
        ("dora", "zero1", 2),
        ("full", "zero2", 2),
        ("lora", "zero3", 2),
        ("full", "zero3", 2),
        ("dora", "zero3", 2),
        ("full", "zero2", 1),
        ("full", "zero3", 1),
    ],
)
def test_more_of_them(method: str, strategy: str, processes: int, job: Job, run_here: Run, runs: Runs) -> None:
    alone, work = make(job, run_here, method, strategy, processes)
    result = runs.train(work, processes=processes)[0]["result"]
    assert (result["worldSize"], result["strategy"]) == (processes, strategy)
    compare(alone, work, method)


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_starts(job: Job) -> None:
    work = job(training={"globalBatchSize": 9}, distributed={"numProcPerNode": 2})
    done = train(work)
    assert done.returncode == 10
    assert "globalBatchSize: 8 or 10" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((work / "train-outcome.json").read_text())["reason"] == "InvalidSpec"


def test_a_workers_failure_reaches_the_launcher(job: Job) -> None:
    work = job(method="lora", adapter={"targetModules": ["nothing"]}, distributed={"numProcPerNode": 2})
    done = train(work)
    assert done.returncode == 10
    assert "has no linear layer nothing" in done.stderr
    assert "Traceback" not in done.stderr
    outcome = json.loads((work / "train-outcome.json").read_text())
    assert outcome["reason"] == "InvalidSpec"
    assert "q_proj" in outcome["remedy"]
    assert not (work / "train" / "stage.json").exists()
