"""Every seeded fault is stopped before anything is served, by a message that names it; clean jobs are not stopped."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.corpus import FAULTS, Fault
from faults.jobs import FAMILIES, Snapshots, copy_of, keep_inputs, run_stages
from faults.run import run_clean, run_fault
from support.warm_exporter import warm_exporters
from tunesmith_api.work_folder import Stage

DOCS = Path(__file__).parents[2] / "docs" / "faithful.md"


@pytest.fixture(scope="session")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Snapshots:
    return Snapshots(tmp_path_factory.mktemp("snapshots"))


@pytest.fixture(scope="module", autouse=True)
def exporters_begin_at_once() -> Iterator[None]:
    with warm_exporters():
        yield


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_is_stopped_and_named(
    fault: Fault, snapshots: Snapshots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = run_fault(fault, snapshots, tmp_path / "copy", monkeypatch)
    assert re.search(fault.says, stop.message, re.S), stop
    assert stop.reason == fault.reason, stop
    row = next((line for line in DOCS.read_text().splitlines() if line.startswith(f"| {fault.name} |")), "")
    assert [cell.strip(" `") for cell in row.split("|")[2:4]] == [stop.where, stop.reason], "docs/faithful.md differs"


def test_a_checkpoint_of_another_job_is_not_resumed_from(
    snapshots: Snapshots, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clean = snapshots.after(2)
    other = copy_of(snapshots.after(1), tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["spec"]["training"]["learningRate"] = 0.01
    (other / "config.json").write_text(json.dumps(config))
    run_stages(other, Stage.PREPARE, Stage.TRAIN)
    work = copy_of(snapshots.after(1), tmp_path / "work")
    shutil.copytree(other / "train" / "checkpoints", work / "train" / "checkpoints")
    keep_inputs(work, Stage.TRAIN)
    run_stages(work, Stage.TRAIN)
    assert "cannot be used and is removed: it was made with job" in caplog.text
    name = "train/final/adapter_model.safetensors"
    assert (work / name).read_bytes() == (clean / name).read_bytes()


@pytest.mark.parametrize("number", range(len(FAMILIES)))
def test_a_clean_job_is_not_stopped(number: int, tmp_path: Path) -> None:
    # One of each family; `make faults` runs 100 jobs.
    run_clean(number + len(FAMILIES) * (number % 3), tmp_path)


def test_the_docs_list_the_same_faults() -> None:
    rows = [line.split("|")[1].strip() for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    assert rows[1:] == [fault.name for fault in FAULTS]
