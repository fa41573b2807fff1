"""Adapters with a trained head: with every strategy, from checkpoints, beside quantized weights, to a served model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.label_rows import animal_rows, classification_job
from support.many_fits import fit_all
from support.technique_runs import Runs
from support.tiny_tasks import Family, build_task_model
from support.training import log_of
from tunesmith_api.work_folder import Stage
from tunesmith_trainer.prepare.pipeline import prepare
from tunesmith_trainer.stages.runner import run_stage

HEADS = ["bert.pooler.dense.bias", "bert.pooler.dense.weight", "classifier.bias", "classifier.weight"]


def made(
    folder: Path, family: Family, method: str, strategy: str, stop: int | None = None, precision: str = "fp32"
) -> Path:
    """Make a work folder that is prepared; the same one is copied for every strategy."""
    prepared = folder / f"{family}-{method}"
    rows = animal_rows(40)
    sections: dict[str, Any] = {
        "method": method,
        **({"adapter": {"rank": 4}} if "lora" in method or "dora" in method else {}),
        "training": {
            "maxSteps": 6,
            "globalBatchSize": 8,
            "learningRate": 0.01,
            "maxLength": 32,
            "checkpoint": {"everySteps": 3},
        },
    }
    if not prepared.exists():
        base = build_task_model(folder / f"base-{family}", family, texts=[row["text"] for row in rows])
        classification_job(prepared, base, rows, **sections)
        run_stage(Stage.PREPARE, prepare, prepared)
    work = Path(shutil.copytree(prepared, folder / f"{family}-{method}-{strategy}-{stop}-{precision}"))
    config = json.loads((work / "config.json").read_text())
    config["spec"]["training"]["precision"] = precision
    config["spec"]["distributed"] = {"numProcPerNode": 2, "strategy": strategy}
    (work / "config.json").write_text(json.dumps(config))
    if stop is not None:
        (work / "stop-after").write_text(str(stop))
    return work


def weights_of(work: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(work / "train" / "final" / "adapter_model.safetensors"))


def compare(work: Path, expected: Path, tolerance: float) -> None:
    found, wanted = weights_of(work), weights_of(expected)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=tolerance, rtol=0, msg=f"{work.name}: {name}")
    losses = [[entry["loss"] for entry in log_of(folder)] for folder in (work, expected)]
    assert losses[0] == pytest.approx(losses[1], abs=tolerance)


@pytest.mark.timeout(1800)
def test_every_strategy_trains_the_head_as_ddp_does_and_goes_on_from_a_checkpoint(tmp_path: Path, runs: Runs) -> None:
    plain = made(tmp_path, "bert", "lora", "ddp")
    others = [made(tmp_path, "bert", "lora", f"zero{stage}") for stage in (1, 2, 3)]
    stopped = [made(tmp_path, "bert", "lora", strategy, stop=4) for strategy in ("ddp", "zero3")]
    # DeepSpeed has no autocast, and what is trained is in fp32 all the same.
    narrow = [made(tmp_path, "bert", "lora", strategy, precision="bf16") for strategy in ("ddp", "zero3")]
    quantized = [made(tmp_path, "qwen2", "qlora", strategy) for strategy in ("ddp", "zero3")]
    fit_all(runs, [plain, *others, *stopped, *narrow, *quantized])
    for work in stopped:
        assert "a checkpoint was saved" in json.loads((work / "fit.json").read_text())["error"]
        (work / "stop-after").unlink()
    fit_all(runs, stopped)
    result = json.loads((plain / "fit.json").read_text())
    tensors = weights_of(plain)
    heads = [name.removeprefix("base_model.model.") for name in tensors if ".lora_" not in name]
    assert sorted(heads) == HEADS
    assert result["trainedParameters"] == sum(tensor.numel() for tensor in tensors.values())
    base = load_file(plain / "prepare" / "model-with-head" / "model.safetensors")
    adapter = sum(tensor.numel() for name, tensor in tensors.items() if ".lora_" in name)
    assert result["totalParameters"] == adapter + sum(tensor.numel() for tensor in base.values())
    for name in heads:
        assert not torch.equal(tensors[f"base_model.model.{name}"], base[name])
    for work in others:
        assert json.loads((work / "fit.json").read_text())["totalParameters"] == result["totalParameters"]
        compare(work, plain, 1e-4)
    compare(stopped[0], plain, 0)
    compare(stopped[1], others[2], 0)
    compare(quantized[1], quantized[0], 1e-4)
    assert "base_model.model.score.weight" in weights_of(quantized[0])
    losses = [[entry["loss"] for entry in log_of(work)] for work in (plain, *narrow)]
    assert losses[1] == pytest.approx(losses[0], abs=0.05)
    assert losses[2] == pytest.approx(losses[0], abs=0.05)
