"""Packed training learns, step by step, what padded training learns."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.technique_runs import Runs
from support.training import log_of, train
from tunesmith_trainer.data.packing import PackCollator

Run = Callable[[Path], dict[str, Any]]
Job = Callable[..., Path]

TRAINING = {"maxSteps": 6, "globalBatchSize": 8, "learningRate": 0.003}


def choices(method: str, packing: bool, **training: Any) -> dict[str, Any]:
    adapter = None if method == "full" else {"rank": 4, "targetModules": ["q_proj", "down_proj"]}
    return {"method": method, "adapter": adapter, "training": {**TRAINING, **training, "packing": packing}}


def same(padded: Path, packed: Path) -> None:
    """Compare the losses of all steps and the final weights."""
    expected, entries = log_of(padded), log_of(packed)
    for name, tolerance in (("loss", 1e-5), ("evalLoss", 1e-5), ("tokens", 0)):
        values = [entry.get(name) for entry in entries]
        assert values == pytest.approx([entry.get(name) for entry in expected], abs=tolerance), name
    for path in (padded / "train" / "final").glob("*.safetensors"):
        one, other = load_file(path), load_file(packed / "train" / "final" / path.name)
        assert one.keys() == other.keys()
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, atol=1e-5, rtol=0)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The shape of the input of each forward pass."""
    from transformers import LlamaModel

    seen: list[tuple[int, int]] = []
    forward = LlamaModel.forward

    def watched(self: Any, input_ids: torch.Tensor, **options: Any) -> Any:
        if self.training:
            seen.append(tuple(input_ids.shape))
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(LlamaModel, "forward", watched)
    return seen


@pytest.mark.parametrize("micro", [8, 2])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_one_process(method: str, micro: int, job: Job, run_here: Run, passes: list[tuple[int, int]]) -> None:
    padded = job("padded", **choices(method, False, microBatchSize=micro))
    run_here(padded)
    assert {rows for rows, _ in passes} == {micro}
    cells = sum(rows * length for rows, length in passes)
    passes.clear()
    packed = job("packed", **choices(method, True, microBatchSize=micro))
    marker = run_here(packed)
    same(padded, packed)
    assert marker["resolved"]["packing"] == {"value": True, "reason": "set in the spec"}
    assert {rows for rows, _ in passes} == {1}
    assert sum(length for _, length in passes) == log_of(packed)[-1]["tokens"] < cells
    assert len(passes) <= 6 * 8 // micro


def test_steps_of_short_rows_take_fewer_passes(job: Job, run_here: Run, passes: list[tuple[int, int]]) -> None:
    packed = job("packed", **choices("lora", True, microBatchSize=1, globalBatchSize=16))
    run_here(packed)
    assert 6 < len(passes) < 6 * 16


def test_gradient_checkpointing_of_packs(job: Job, run_here: Run) -> None:
    padded = job("padded", **choices("full", False, microBatchSize=4))
    run_here(padded)
    packed = job("packed", **choices("full", True, microBatchSize=4, gradientCheckpointing=True))
    run_here(packed)
    same(padded, packed)


@pytest.mark.parametrize(
    ("method", "strategy"),
    [
        ("full", "ddp"),
        ("lora", "zero3"),
        pytest.param("full", "zero2", marks=pytest.mark.slow),
    ],
)
def test_two_processes(method: str, strategy: str, job: Job, run_here: Run, runs: Runs) -> None:
    padded = job("padded", **choices(method, False, microBatchSize=1))
    run_here(padded)
    packed = job(
        "packed",
        **choices(method, True, microBatchSize=1),
        distributed={"numProcPerNode": 2, "strategy": strategy},
    )
    result = runs.train(packed)[0]["result"]
    same(padded, packed)
    assert result["worldSize"] == 2


def test_processes_with_different_numbers_of_targets_compute_the_loss_in_step_under_zero3(
    job: Job, run_here: Run, tmp_path: Path
) -> None:
    """Each piece of the logits gathers the last layer's weights, which all processes take part in."""
    padded = job("padded", **choices("full", False, microBatchSize=1))
    run_here(padded)
    (tmp_path / "sitecustomize.py").write_text(
        "import tunesmith_api.choices.speed as speed\n"
        "speed.LOGITS_WHOLE = speed.LOGITS_CHUNK = 8 * 128  # the logits of 8 positions\n"
    )
    packed = job(
        "packed",
        **choices("full", True, microBatchSize=1),
        distributed={"numProcPerNode": 2, "strategy": "zero3"},
    )
    done = train(packed, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    same(padded, packed)


def test_a_run_that_breaks_off_ends_in_the_same_weights(
    job: Job, run_here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = choices("full", True, microBatchSize=2, checkpoint={"everySteps": 2})
    whole = job("whole", **options)
    expected = run_here(whole)
    work = job("broken", **options)
    pack = PackCollator.__call__
    steps = 0

    def breaks(self: PackCollator, rows: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps > 5:
            raise RuntimeError("the process ends here")
        return pack(self, rows)

    monkeypatch.setattr(PackCollator, "__call__", breaks)
    with pytest.raises(RuntimeError, match="ends here"):
        run_here(work)
    monkeypatch.setattr(PackCollator, "__call__", pack)
    assert run_here(work) == expected
    assert json.loads((work / "train" / "metrics.json").read_text())["resumedFromStep"] in (2, 4)
    for folder in (whole, work):
        (path,) = (folder / "train" / "final").glob("*.safetensors")
        assert path.read_bytes() == (whole / "train" / "final" / path.name).read_bytes()
    assert [entry["loss"] for entry in log_of(work)] == [entry["loss"] for entry in log_of(whole)]


def test_what_cannot_be_packed_is_refused_with_the_reason(job: Job, run_here: Run) -> None:
    from tunesmith_api.failures import Reason, StageError

    work = job(**choices("lora", True))
    config = work / "prepare" / "model" / "config.json"
    settings = json.loads(config.read_text())
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    config.write_text(json.dumps({**settings, "max_position_embeddings": 16, "rope_parameters": rope}))
    with pytest.raises(StageError, match=r"packing: true, but the model's rope \(dynamic\)") as caught:
        run_here(work)
    assert caught.value.reason is Reason.INVALID_SPEC
