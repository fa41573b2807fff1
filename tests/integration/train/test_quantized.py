"""qlora and qdora: every part of the adapter moves, and a killed run ends in the same bits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.technique_runs import Runs
from support.training import log_of
from tunesmith_api.failures import StageError
from tunesmith_api.methods import METHODS
from tunesmith_trainer.storage.files import read_json

Run = Callable[[Path], dict[str, Any]]
Job = Callable[..., Path]

QUANTIZED = [name for name, info in METHODS.items() if info.is_quantized]
ADAPTER = {"rank": 4, "alpha": 8}


def adapter_of(work: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(work / "train" / "final" / "adapter_model.safetensors"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", QUANTIZED)
def test_every_part_of_the_adapter_moves(method: str, precision: str, job: Job, run_here: Run) -> None:
    """In bf16 too, where magnitudes kept in bf16 would be rounded back to where they were."""
    adapters = []
    for steps in (2, 4):  # the rate of the first step is 0
        training = {"maxSteps": steps, "precision": precision, "learningRate": 2e-4, "scheduler": "constant"}
        work = job(f"job-{steps}", method=method, adapter=ADAPTER, training=training)
        run_here(work)
        adapters.append(adapter_of(work))
    first, later = adapters
    parts = {name.rsplit(".lora_", 1)[1] for name in first}
    assert ("magnitude_vector" in parts) is METHODS[method].is_decomposed
    for name in first:
        assert first[name].dtype == torch.float32
        assert not torch.equal(first[name], later[name]), name


@pytest.mark.parametrize("method", QUANTIZED)
def test_gradient_checkpointing_only_saves_memory(method: str, job: Job, run_here: Run) -> None:
    losses = []
    for on in (False, True):
        work = job(f"job-{on}", method=method, adapter=ADAPTER, training={"gradientCheckpointing": on, "maxSteps": 4})
        run_here(work)
        losses.append([entry["loss"] for entry in log_of(work)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_an_interrupted_run_ends_in_the_same_bits(job: Job, run_here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith_trainer.train.trainer import FineTuner

    choices = {"method": "qdora", "adapter": {**ADAPTER, "dropout": 0.1}}
    training = {"maxSteps": 6, "checkpoint": {"everySteps": 2}}
    whole, broken = (job(name, **choices, training=training) for name in ("whole", "broken"))
    run_here(whole)
    evaluate = FineTuner.evaluate

    def fail(self: FineTuner, *arguments: Any, **options: Any) -> dict[str, float]:
        if self.state.global_step == 5:
            raise RuntimeError("killed")
        return evaluate(self, *arguments, **options)

    monkeypatch.setattr(FineTuner, "evaluate", fail)
    with pytest.raises((RuntimeError, StageError)):
        run_here(broken)
    monkeypatch.undo()
    run_here(broken)
    assert read_json(broken / "train" / "metrics.json")["resumedFromStep"] == 4
    one, other = (adapter_of(work) for work in (whole, broken))
    assert all(torch.equal(one[name], other[name]) for name in one)
    digests = [read_json(work / "train" / "final" / "quantization.json")["digest"] for work in (whole, broken)]
    assert digests[0] == digests[1]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["zero2", "zero3"])
def test_two_processes_learn_what_one_learns(strategy: str, job: Job, run_here: Run, runs: Runs) -> None:
    training = {"maxSteps": 4, "globalBatchSize": 8, "microBatchSize": 2, "learningRate": 0.01}
    alone = job("alone", method="qdora", adapter=ADAPTER, training=training)
    expected_result = run_here(alone)
    distributed = {"numProcPerNode": 2, "strategy": strategy}
    several = job("several", method="qdora", adapter=ADAPTER, training=training, distributed=distributed)
    result = runs.train(several)[0]["result"]
    for name in ("loss", "evalLoss"):
        expected, found = ([entry[name] for entry in log_of(work)] for work in (alone, several))
        assert found == pytest.approx(expected, abs=1e-4)
    assert result["totalParameters"] == expected_result["totalParameters"]
