"""What follows training within the stage: the models are evaluated where training has left a GPU free.

`trained.json` records that training is complete, before anything else follows: what is killed while it evaluates is not
trained again.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tunesmith_api.contract import WORK_URI
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.models.memory import give_back
from tunesmith_trainer.runtime.progress_report import flush_progress
from tunesmith_trainer.storage.files import digest_of_tree, read_json, write_json

log = logging.getLogger(__name__)

EVALUATE_ANYWHERE = "TUNESMITH_EVALUATE_IN_TRAIN"
"""Variable for tests: if it is set, models are evaluated after training without a GPU too."""


def _file(work: WorkFolder) -> Path:
    return work.stage(Stage.TRAIN) / "trained.json"


def read_trained(work: WorkFolder) -> dict[str, Any] | None:
    """Return what training has returned in this or an earlier attempt; None if it is not complete."""
    found: dict[str, Any] | None = read_json(_file(work))
    return found


def completed_training(work: WorkFolder) -> dict[str, Any] | None:
    """Return what training has returned in an earlier attempt, if the trained weights are still the same."""
    found = read_trained(work)
    if found is None or not work.final.is_dir() or digest_of_tree(work.final) != found["final"]:
        return None
    log.info("training is complete already")
    return found


def evaluates_here(nodes: int) -> bool:
    """Return whether the models are evaluated in the train stage.

    Nodes that share no folder cannot see that node 0 is still at work, so there it is left to publish.

    Args:
        nodes: Nodes of the run.
    """
    if nodes > 1 and os.environ.get(WORK_URI):
        return False
    return bool(os.environ.get(EVALUATE_ANYWHERE)) or _has_gpu()


def record_trained(work: WorkFolder, trained: dict[str, Any]) -> None:
    """Record that training is complete, and what it has returned."""
    write_json(_file(work), trained)


def evaluate_both_models(work: WorkFolder) -> None:
    """Evaluate the base model and the tuned one in a process of its own. If that fails, `publish` evaluates them."""
    free_memory()
    flush_progress()
    command = [sys.executable, "-m", "tunesmith_trainer.train.evaluation", "--work", str(work.root)]
    child = subprocess.Popen([*command, "--parent", str(os.getpid())], start_new_session=True)
    try:
        child.wait()
    except BaseException:
        child.kill()
        child.wait()
        raise


def _has_gpu() -> bool:
    """Return whether torch can use a GPU. Without a device file it is not even imported, which takes seconds."""
    devices = Path("/dev")
    if not (any(devices.glob("nvidia*")) or (devices / "kfd").exists() or (devices / "dxg").exists()):
        return False
    import torch

    return torch.cuda.is_available()


def free_memory() -> None:
    """Give back the memory that training in this process has used."""
    torch = sys.modules.get("torch")
    give_back()
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
