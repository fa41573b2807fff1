"""The weights at the ends of the newest epochs are kept for publish, however often training is stopped."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.training import log_of
from tunesmith_trainer.storage.files import digest_of_tree

Run = Callable[[Path], dict[str, Any]]
Job = Callable[..., Path]

CHECKPOINT = {"everySteps": 1, "keep": 100}
TRAINING = {"epochs": 4, "maxSteps": None, "globalBatchSize": 4, "evalSteps": 100}
KEPT = {**TRAINING, "checkpoint": {**CHECKPOINT, "publish": 2}}
"""Two steps an epoch, so steps 2, 4 and 6 end one, and step 8 is the last."""


def stored(folder: Path) -> bytes:
    (path,) = folder.glob("*.safetensors")
    return path.read_bytes()


def begin_again(work: Path, last: int) -> None:
    """Leave of a complete stage what a run that was killed after the checkpoint of step `last` had left."""
    for name in ("final", "epochs"):
        shutil.rmtree(work / "train" / name)
    (work / "train" / "stage.json").unlink()
    for checkpoint in (work / "train" / "checkpoints").iterdir():
        if int(checkpoint.name.removeprefix("checkpoint-")) > last:
            shutil.rmtree(checkpoint)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_they_are_those_of_their_steps_after_kills_too(method: str, job: Job, run_here: Run) -> None:
    work = job("kept", rows=8, method=method, training=KEPT)
    marker = run_here(work)
    train = work / "train"
    assert sorted(path.name for path in (train / "epochs").iterdir()) == ["step-4", "step-6"]
    assert marker["epochEnds"] == {str(n): digest_of_tree(train / "epochs" / f"step-{n}") for n in (4, 6)}
    for step in (4, 6):
        assert stored(train / "epochs" / f"step-{step}") == stored(train / "checkpoints" / f"checkpoint-{step}")
    assert stored(train / "epochs" / "step-6") != stored(train / "final")
    assert [entry["step"] for entry in log_of(work) if "evalLoss" in entry] == [4, 6, 8], "they are evaluated"

    plain = job("plain", rows=8, method=method, training={**TRAINING, "checkpoint": CHECKPOINT})
    assert "epochEnds" not in run_here(plain) and not (plain / "train" / "epochs").exists()
    assert stored(plain / "train" / "final") == stored(train / "final"), "keeping them changes nothing"

    for step in (3, 5, 7) if method == "full" else (5,):
        begin_again(work, step)
        half = train / "epochs" / "step-6"  # of a run that was killed while it wrote it
        half.mkdir(parents=True)
        (half / "model.safetensors").write_bytes(b"half")
        assert run_here(work) == marker
        assert json.loads((train / "metrics.json").read_text())["resumedFromStep"] == step
        assert {n: digest_of_tree(train / "epochs" / f"step-{n}") for n in (4, 6)} == {
            int(n): digest for n, digest in marker["epochEnds"].items()
        }


def test_with_early_stopping_the_newest_ones_are_kept(job: Job, run_here: Run) -> None:
    stopping = {"patience": 1, "minDelta": 100}  # the first evaluation is the best one, the second the last
    training = {**KEPT, "epochs": 20, "evalSteps": 7, "earlyStopping": stopping}
    work = job("stopped", rows=8, training=training)
    marker = run_here(work)
    assert marker["stoppedEarly"] and marker["steps"] < 40
    assert sorted(map(int, marker["epochEnds"])) == [2, 4]
    assert marker["publishedStep"] == marker["bestStep"]
