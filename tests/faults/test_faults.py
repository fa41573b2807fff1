"""Every seeded fault is stopped before anything is served, by a message that names it; clean jobs are not stopped."""

import json
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from faults.corpus import FAULTS, Fault
from faults.jobs import FAMILIES, copy_of, open_served, run_stages, write_base, write_job
from tunesmith_api.failures import StageError
from tunesmith_api.work_folder import Stage

DOCS = Path(__file__).parents[2] / "docs" / "faithful.md"


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Gives a job's work folder after a number of clean stages, each made once. Not to be changed."""

    @lru_cache
    def make(method: str, base: str, job: str, stages: int) -> Path:
        if stages == 0:
            folder = tmp_path_factory.mktemp("job")
            options = json.loads(job)
            return write_job(folder / "work", write_base(folder / "base", **json.loads(base)), method, **options)
        work = copy_of(make(method, base, job, stages - 1), tmp_path_factory.mktemp("job") / "copy")
        run_stages(work, list(Stage)[stages - 1])
        return work

    return make


def stopped(fault: Fault, work: Path, patch: pytest.MonkeyPatch) -> tuple[str, str, str]:
    """Run what is left of a job with a fault in it; return where it stopped, the reason and the message."""
    from tunesmith_serving.runtime.errors import ServingError

    fault.inject(work, patch)
    left = list(Stage)[list(Stage).index(fault.before) :] if fault.before else []
    for stage in left:
        try:
            run_stages(work, stage)
        except StageError as error:
            return stage.value, error.reason.value, str(error)
    try:
        open_served(work)
    except ServingError as error:
        return "serve", "", str(error)
    return "", "", "nothing stopped it"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_is_stopped_and_named(
    fault: Fault, snapshot: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = dict(fault.job)
    published = options.pop("published", False)
    stages = 3 if published or fault.before is None else list(Stage).index(fault.before)
    work = copy_of(snapshot(fault.method, json.dumps(fault.base), json.dumps(options), stages), tmp_path / "copy")
    where, reason, message = stopped(fault, work, monkeypatch)
    assert re.search(fault.says, message, re.S), f"{where or 'nowhere'}: {reason}: {message}"
    assert reason == fault.reason
    row = next((line for line in DOCS.read_text().splitlines() if line.startswith(f"| {fault.name} |")), None)
    assert row is not None, "it is missing in docs/faithful.md"
    assert [cell.strip(" `") for cell in row.split("|")[2:4]] == [where, reason or "not started"]


def test_a_checkpoint_of_another_job_is_not_resumed_from(
    snapshot: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import shutil

    prepared = snapshot("lora", "{}", "{}", 1)
    clean = copy_of(prepared, tmp_path / "clean")
    run_stages(clean, Stage.TRAIN)
    other = copy_of(prepared, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["spec"]["training"]["learningRate"] = 0.01
    (other / "config.json").write_text(json.dumps(config))
    run_stages(other, Stage.PREPARE, Stage.TRAIN)
    work = copy_of(prepared, tmp_path / "work")
    shutil.copytree(other / "train" / "checkpoints", work / "train" / "checkpoints")
    (work / "train" / "inputs.json").write_text((clean / "train" / "inputs.json").read_text())
    assert list((work / "train" / "checkpoints").glob("checkpoint-*"))
    run_stages(work, Stage.TRAIN)
    assert "cannot be used and is removed: it was made with job" in caplog.text
    name = "train/final/adapter_model.safetensors"
    assert (work / name).read_bytes() == (clean / name).read_bytes()


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_clean_job_is_not_stopped(architecture: str, tmp_path: Path) -> None:
    method = ("lora", "dora", "full")[FAMILIES.index(architecture) % 3]
    work = write_job(tmp_path / "work", write_base(tmp_path / "base", architecture), method)
    run_stages(work, *Stage)
    open_served(work)


def test_the_docs_list_no_other_faults() -> None:
    rows = [line.split("|")[1].strip() for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    assert rows[1:] == [fault.name for fault in FAULTS]
