"""Training in this process, where one process is enough: torch and transformers are imported once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from support.ports import free_port
from support.training import training_job
from tunesmith_api.work_folder import WorkFolder


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """One thread, as the child processes of the tests have."""
    torch.set_num_threads(1)


@pytest.fixture
def run_here() -> Callable[[Path], dict[str, Any]]:
    """Run the train stage in this process and return its marker."""
    from tunesmith_trainer.stages.train import run_train_stage
    from tunesmith_trainer.storage.files import read_json
    from tunesmith_trainer.train.distributed.topology import NodeTopology

    def run(work: Path) -> dict[str, Any]:
        run_train_stage(WorkFolder(work), NodeTopology())
        return dict(read_json(work / "train" / "stage.json"))

    return run


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Path]:
    """Make a job; the options are those of `training_job`."""

    def make(name: str = "job", **choices: Any) -> Path:
        return training_job(tmp_path / name, **choices)

    return make


@pytest.fixture
def port() -> int:
    """A free port, for machines of a run to meet at."""
    return free_port()
