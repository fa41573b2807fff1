"""Pairs of answers in the trainer: a run goes on to the bit, and processes share its work."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.preference_jobs import preference_job, random_pairs
from support.technique_runs import Runs
from support.training import log_of
from tunesmith_api.failures import StageError

Run = Callable[[Path], dict[str, Any]]
TRAINING = {"maxSteps": 12, "globalBatchSize": 4, "microBatchSize": 2, "learningRate": 0.005}


def weights(work: Path) -> bytes:
    (file,) = (work / "train" / "final").glob("*.safetensors")
    return file.read_bytes()


def reference(work: Path) -> Any:
    return np.load(work / "train" / "reference.npy")


@pytest.mark.parametrize("keeps_file", [True, False])
def test_a_run_that_is_stopped_goes_on_to_the_bit(
    keeps_file: bool, tmp_path: Path, run_here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of all weights: the reference of a model that has changed since is known from before."""
    from tunesmith_trainer.train.trainer import FineTuner

    choices = {"training": {**TRAINING, "checkpoint": {"everySteps": 5}}, "method": "full"}
    whole = preference_job(tmp_path / "whole", **choices)
    expected = run_here(whole)
    work = preference_job(tmp_path / "stopped", **choices)
    step = FineTuner.training_step

    def stops(self: Any, *args: Any, **options: Any) -> Any:
        if self.state.global_step == 7:
            raise KeyboardInterrupt
        return step(self, *args, **options)

    with monkeypatch.context() as patch, pytest.raises((StageError, KeyboardInterrupt)):
        patch.setattr(FineTuner, "training_step", stops)
        run_here(work)
    before = reference(work)
    if keeps_file:
        # What is in the file is used, and not computed with the weights of the checkpoint.
        patch_reference(monkeypatch)
    else:
        (work / "train" / "reference.npy").unlink()
    assert run_here(work) == expected
    assert weights(work) == weights(whole)
    assert [e["loss"] for e in log_of(work)] == [e["loss"] for e in log_of(whole)]
    assert json.loads((work / "train" / "metrics.json").read_text())["resumedFromStep"] == 5
    assert np.array_equal(reference(work), before)


def patch_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test fail if the reference is computed."""
    import tunesmith_trainer.train.reference as module

    def fails(*_: Any) -> None:
        raise AssertionError("the reference is computed again")

    monkeypatch.setattr(module, "_compute", fails)


@pytest.mark.parametrize(
    ("method", "adapter"),
    [("lora", None), ("lora", {"initLoraWeights": "pissa"}), ("dora", None), ("ia3", None), ("full", None)],
)
def test_the_reference_is_the_base_model(
    method: str, adapter: dict[str, Any] | None, tmp_path: Path, run_here: Run
) -> None:
    from transformers import LlamaForCausalLM

    training = {**TRAINING, "maxSteps": 2}
    work = preference_job(tmp_path / "job", method=method, training=training, adapter=adapter, rows=8)
    if adapter:
        from tunesmith_api.spec import JobConfig
        from tunesmith_api.work_folder import WorkFolder
        from tunesmith_trainer.models.weights_check import read_architecture
        from tunesmith_trainer.prepare.adapter_start import write_start

        config = JobConfig.model_validate_json((work / "config.json").read_bytes())
        base = work / "prepare" / "model"
        write_start(config, WorkFolder(work), base, read_architecture(base, "model").linears)
    run_here(work)
    model = LlamaForCausalLM.from_pretrained(work / "prepare" / "model")
    expected = []
    for pairs in (random_pairs(8), random_pairs(6, seed=1)):
        for prompt, *answers in pairs:
            row = []
            for answer in answers:
                with torch.no_grad():
                    logs = model(torch.tensor([prompt + answer])).logits[0, :-1].log_softmax(-1)
                ids = torch.tensor([prompt + answer])[0, 1:]
                row.append(float(logs.gather(1, ids[:, None])[len(prompt) - 1 :].sum()))
            expected.append(row)
    assert np.abs(reference(work) - np.array(expected)).max() < 2e-4
    log = log_of(work)
    assert log[0]["loss"] == pytest.approx(np.log(2), abs=1e-6)


def test_two_processes_train_as_one(tmp_path: Path, run_here: Run, runs: Runs) -> None:
    one = preference_job(tmp_path / "one", method="lora", training=TRAINING)
    run_here(one)
    two = preference_job(tmp_path / "two", method="lora", training=TRAINING, distributed={"numProcPerNode": 2})
    runs.train(two)
    for name in ("loss", "rewardMargin", "rewardAccuracy", "evalLoss", "evalRewardMargin"):
        found, expected = ([entry[name] for entry in log_of(work) if name in entry] for work in (two, one))
        assert found == pytest.approx(expected, abs=2e-5), name
    assert np.allclose(reference(two), reference(one), atol=1e-5)
    shutil.rmtree(two)
