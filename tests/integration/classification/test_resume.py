"""Training of a classifier that is stopped goes on where it was: the weights are the same to the bit."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.label_rows import animal_rows, classification_job
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.prepare.pipeline import prepare
from tunesmith_trainer.stages.runner import run_stage
from tunesmith_trainer.stages.train import run_train_stage
from tunesmith_trainer.train.distributed.topology import NodeTopology

TRAINING = {"maxSteps": 60, "learningRate": 0.01, "globalBatchSize": 8, "maxLength": 32}


def weights(work: Path) -> dict[str, bytes]:
    """The weights alone: the configuration of an adapter names its base model's folder."""
    found = {path.name: path.read_bytes() for path in (work / "train" / "final").glob("*.safetensors")}
    assert found
    return found


def test_the_next_run_goes_on(base_of: Callable[..., Path], tmp_path: Path) -> None:
    rows = animal_rows()
    sections = {
        "method": "lora",
        "training": {**TRAINING, "checkpoint": {"everySteps": 50}},
        "classification": {"classWeights": "balanced"},
    }
    # Both jobs read the same file: its name is part of what is prepared.
    whole = classification_job(tmp_path / "whole", base_of("bert"), rows, **sections)
    stopped = classification_job(tmp_path / "stopped", base_of("bert"), rows, **sections)
    (stopped / "config.json").write_bytes((whole / "config.json").read_bytes())
    for work in (whole, stopped):
        run_stage(Stage.PREPARE, prepare, work)
    run_train_stage(WorkFolder(whole), NodeTopology())
    log = stopped / "train" / "training_log.jsonl"

    def stop() -> None:
        deadline = time.monotonic() + 300
        while not log.exists() or len(log.read_bytes().splitlines()) < 10:
            if time.monotonic() > deadline:
                return
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(StageError) as caught:
        run_train_stage(WorkFolder(stopped), NodeTopology())
    stopper.join()
    assert caught.value.reason is Reason.INTERRUPTED
    assert not (stopped / "train" / "final").exists()
    run_train_stage(WorkFolder(stopped), NodeTopology())
    assert weights(stopped) == weights(whole)
