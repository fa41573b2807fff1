"""Several processes learn what one process learns, step by step."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.training import log_of, train

Run = Callable[[Path], dict[str, Any]]
Job = Callable[..., Path]

TRAINING = {"maxSteps": 6, "globalBatchSize": 8, "microBatchSize": 2, "learningRate": 0.01}


def compare(job: Job, run_here: Run, method: str, strategy: str, processes: int, **training: Any) -> None:
    adapter = None if method == "full" else {"rank": 4}
    choices = {"method": method, "adapter": adapter, "training": {**TRAINING, **training}}
    alone = job("alone", **choices)
    run_here(alone)
    work = job("several", **choices, distributed={"numProcPerNode": processes, "strategy": strategy})
    temporary = work.parent / "temporary"
    temporary.mkdir()
    done = train(work, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    assert list(temporary.iterdir()) == []
    expected, entries = log_of(alone), log_of(work)
    for name, tolerance in (("loss", 1e-4), ("evalLoss", 1e-4), ("gradNorm", 1e-2), ("learningRate", 1e-12)):
        values = [entry[name] for entry in entries]
        assert values == pytest.approx([entry[name] for entry in expected], abs=tolerance), name
    assert [entry["tokens"] for entry in entries] == [entry["tokens"] for entry in expected]
    marker = json.loads((work / "train" / "stage.json").read_text())
    assert (marker["worldSize"], marker["strategy"]) == (processes, strategy)
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


@pytest.mark.parametrize(
    ("method", "strategy"), [("full", "ddp"), ("dora", "zero1"), ("lora", "zero2"), ("full", "zero3")]
)
def test_two_processes(method: str, strategy: str, job: Job, run_here: Run) -> None:
    compare(job, run_here, method, strategy, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "strategy", "processes"),
    [
        ("lora", "ddp", 2),
        ("full", "zero1", 2),
        ("full", "zero2", 2),
        ("lora", "zero3", 2),
        ("dora", "zero3", 2),
        ("full", "zero2", 1),
        ("full", "zero3", 1),
    ],
)
def test_more_of_them(method: str, strategy: str, processes: int, job: Job, run_here: Run) -> None:
    compare(job, run_here, method, strategy, processes)


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
