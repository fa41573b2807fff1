"""What the tests of sequence classification share: base models and stages that run in this process."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

from support.label_rows import animal_rows
from support.tiny_tasks import Family, build_task_model
from tunesmith_api.work_folder import Stage, WorkFolder


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """One thread, as the child processes of the tests have."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Gives the folder of a tiny base model by its family. Not to be changed."""

    @lru_cache
    def build(family: Family, head: str | None = None) -> Path:
        texts = [row["text"] for row in animal_rows()]
        return build_task_model(tmp_path_factory.mktemp(family), family, head, texts=texts)

    return build


@pytest.fixture
def run_stages() -> Callable[[Path], dict[str, Any]]:
    """Run all stages of a job in this process, and return the manifest of its artifact."""
    from tunesmith_trainer.prepare.pipeline import prepare
    from tunesmith_trainer.publish import publish
    from tunesmith_trainer.stages.runner import run_stage
    from tunesmith_trainer.stages.train import run_train_stage
    from tunesmith_trainer.train.distributed.topology import NodeTopology

    def run(folder: Path) -> dict[str, Any]:
        work = WorkFolder(folder)
        run_stage(Stage.PREPARE, prepare, work.root)
        run_train_stage(work, NodeTopology())
        run_stage(Stage.PUBLISH, publish, work.root)
        return dict(json.loads((work.artifact / "manifest.json").read_text()))

    return run
