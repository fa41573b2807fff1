"""Training that runs out of memory goes on with fewer rows in a forward pass, and ends in the same weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from support.training import log_of, train

Run = Callable[[Path], dict[str, Any]]
Job = Callable[..., Path]

HOOK = Path(__file__).parents[2] / "support" / "too_large"
TRAINING = {"maxSteps": 8, "microBatchSize": 8, "checkpoint": {"everySteps": 1, "keep": 2}}


def limited(work: Path, tokens: int, how: str, **extra: str) -> Any:
    return train(work, PYTHONPATH=str(HOOK), TOO_LARGE=str(tokens), TOO_LARGE_AS=how, **extra)


def result(work: Path) -> dict[str, Any]:
    return dict(json.loads((work / "train" / "stage.json").read_text()))


def require_same_weights(work: Path, other: Path) -> None:
    mine, theirs = (load_file(path / "train" / "final" / "model.safetensors") for path in (work, other))
    for name, tensor in theirs.items():
        np.testing.assert_allclose(mine[name], tensor, atol=1e-5, err_msg=name)


def widths(work: Path) -> list[int]:
    """Tokens of the one forward pass of each step, padding included."""
    from tunesmith_trainer.data.token_store import TokenStore
    from tunesmith_trainer.train.sampler import training_order

    lengths = TokenStore.open(work / "prepare" / "data" / "train").lengths
    order = training_order(lengths, 8, 8, 42).reshape(8, 8)
    return [int(lengths[rows].max()) * 8 for rows in order]


@pytest.fixture
def undisturbed(job: Job, run_here: Run) -> Path:
    work = job("undisturbed", training=TRAINING)
    run_here(work)
    return work


def test_it_goes_on_from_the_checkpoint_with_half_the_rows(job: Job, undisturbed: Path) -> None:
    work = job("limited", training=TRAINING)
    sizes = widths(work)
    most = max(sizes[:3]) + 1  # nothing is too large up to step 3
    step = next(number for number, size in enumerate(sizes, 1) if size >= most)
    done = limited(work, most, "oom")
    assert done.returncode == 0, done.stderr
    marker = result(work)
    size = marker["resolved"]["microBatchSize"]
    assert size == {"value": 4, "reason": f"halved from 8 after out of memory at step {step}"}
    assert marker["resolved"]["gradientAccumulationSteps"]["value"] == 2
    assert f"out of memory at step {step}: CUDA out of memory" in done.stderr
    assert f"Going on with microBatchSize 4, {size['reason']}" in done.stderr
    assert json.loads((work / "train" / "metrics.json").read_text())["resumedFromStep"] == step - 1
    assert json.loads((work / "progress.json").read_text())["adjusted"] == f"microBatchSize 4, {size['reason']}"
    assert [entry["step"] for entry in log_of(work)] == list(range(1, 9))
    for mine, theirs in zip(log_of(work), log_of(undisturbed), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    require_same_weights(work, undisturbed)


def test_it_fails_with_what_was_tried(job: Job) -> None:
    work = job(training={**TRAINING, "microBatchSize": 2})
    done = limited(work, 1, "cpu")
    assert done.returncode == 14, done.stderr
    outcome = json.loads((work / "train-outcome.json").read_text())
    assert outcome["reason"] == "OutOfMemory"
    assert "at step 1, with microBatchSize 1, halved from 2" in outcome["message"]
    assert "gradientCheckpointing, turned on after out of memory at step 1" in outcome["message"]
    assert outcome["remedy"].startswith("Lower spec.training.maxLength (now 1024)"), "what was tried is not advised"
    again = limited(work, 1, "cpu")
    assert again.returncode == 14
    assert "Going on" not in again.stderr, "what was recorded is followed"


def test_a_container_that_was_killed_for_its_memory(job: Job, undisturbed: Path) -> None:
    """The operator says that it was; whoever is killed says nothing."""
    work = job("killed", training=TRAINING)
    sizes = widths(work)
    most = max(sizes[:3]) + 1
    assert limited(work, most, "killed").returncode == -9
    done = limited(work, most, "killed", TUNESMITH_KILLED_FOR_MEMORY="1")
    assert done.returncode == 0, done.stderr
    reason = "halved from 8 after the container was killed for its memory"
    assert result(work)["resolved"]["microBatchSize"] == {"value": 4, "reason": reason}
    require_same_weights(work, undisturbed)


def test_one_process_of_two(job: Job, undisturbed: Path) -> None:
    """All processes go on with the same number of rows, whichever was killed."""
    training = {**TRAINING, "microBatchSize": 4}
    work = job("two", training=training, distributed={"numProcPerNode": 2, "strategy": "zero2"})
    most = max(widths(work)[:3]) // 2 + 1
    done = limited(work, most, "killed", TOO_LARGE_RANK="1")
    assert done.returncode == 0, done.stderr
    size = result(work)["resolved"]["microBatchSize"]
    assert size["value"] == 2
    assert size["reason"].startswith("halved from 4 after out of memory after step ")
    require_same_weights(work, undisturbed)
