"""The plan that prepare makes, and jobs that it refuses before anything large is fetched."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from support.hub_mirror import HubMirror
from support.prepare_runs import read_outcome, read_result, write_job, write_rows
from support.tiny_models import build_model
from tunesmith_api.contract import JOB_CONFIG, MACHINE, NODES, TERMINATION_LOG
from tunesmith_api.local.hardware import Hardware
from tunesmith_api.planner import DataShape, ModelShape, Plan, choose, own_machine, parse_machines
from tunesmith_api.spec import JobConfig
from tunesmith_trainer.__main__ import main

URI = "hf://acme/tiny"
SMALL = {"name": "small", "cpus": 2, "memory": "200Mi"}
LARGE = {"name": "large", "cpus": 8, "memory": "64Gi"}
GPUS = {"name": "gpus", "cpus": 8, "memory": "64Gi", "gpu": "A10", "gpus": 2}


# For the whole module: loggers of the libraries keep the stderr they are imported with, which is then not a test's.
@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("hub") / "tiny")


@pytest.fixture
def mirror(tmp_path: Path, tiny: Path) -> Iterator[HubMirror]:
    shutil.copytree(tiny, tmp_path / "hub" / "acme" / "tiny")
    with HubMirror(tmp_path / "hub").serving() as mirror:
        yield mirror


Prepare = Callable[..., tuple[Path, int, str]]


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Prepare:
    """Runs the stage with some variables; returns the work folder, the exit code, and what was written to stderr."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))

    def run(env: dict[str, str], model: Any = None, **spec: Any) -> tuple[Path, int, str]:
        for name in (JOB_CONFIG, MACHINE, NODES, TERMINATION_LOG, "HF_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        work = write_job(tmp_path / "work", write_rows(tmp_path / "rows.jsonl"), model, **spec)
        capsys.readouterr()
        return work, main(["prepare", "--work", str(work)]), capsys.readouterr().err

    return run


def test_a_job_that_cannot_fit_downloads_no_weights(tmp_path: Path, prepare: Prepare, mirror: HubMirror) -> None:
    env = {"HF_ENDPOINT": mirror.endpoint, MACHINE: json.dumps([SMALL])}
    work, code, errors = prepare(env, {"uri": URI})
    assert code == 22, errors
    outcome = read_outcome(work)
    assert outcome["reason"] == "DoesNotFit"
    assert "small has 200Mi" in outcome["message"]
    assert outcome["remedy"]
    files = {request.rsplit("/", 1)[1] for request in mirror.requests if "/resolve/" in request}
    assert "config.json" in files
    assert not [name for name in files if "safetensors" in name]
    assert not (work / "prepare" / "model").exists()
    assert not (work / "prepare" / "data").exists()


def test_the_plan_is_the_planners_with_the_rows_as_they_are(tmp_path: Path, prepare: Prepare) -> None:
    log = tmp_path / "termination-log"
    env = {MACHINE: json.dumps([LARGE, GPUS]), TERMINATION_LOG: str(log)}
    work, code, errors = prepare(env)
    assert code == 0, errors
    result = read_result(work)
    config = JobConfig.model_validate_json((work / "config.json").read_bytes())
    shape, rows = prepared(work)
    expected = choose(config.spec, shape, rows, parse_machines(env[MACHINE]))
    assert isinstance(expected, Plan)
    assert result["plan"] == expected.to_status()
    assert result["plan"]["machine"] == "large"
    assert result["plan"]["reasons"]["microBatchSize"]
    assert json.loads(log.read_bytes())["result"]["plan"] == result["plan"]


def test_several_machines_have_more_processes(tmp_path: Path, prepare: Prepare) -> None:
    work, code, errors = prepare({MACHINE: json.dumps([GPUS]), NODES: "2"})
    assert code == 0, errors
    assert read_result(work)["plan"]["processes"] == 4


def test_without_a_cluster_it_is_this_machine_that_is_planned_for(tmp_path: Path, prepare: Prepare) -> None:
    work, code, errors = prepare({})
    assert code == 0, errors
    plan = read_result(work)["plan"]
    assert (plan["machine"], plan["processes"], plan["strategy"]) == ("this machine", 1, "ddp")
    assert (plan["microBatchSize"], plan["gradientCheckpointing"]) == (8, False)
    assert read_result(work)["disk"]["total"] > 0


def test_a_pod_that_is_told_of_no_machine_makes_no_plan(tmp_path: Path, prepare: Prepare) -> None:
    config = (write_job(tmp_path / "work", tmp_path / "rows.jsonl") / "config.json").read_text()
    work, code, errors = prepare({JOB_CONFIG: config})
    assert code == 0, errors
    assert "plan" not in read_result(work)


def test_a_wrong_table_is_told(tmp_path: Path, prepare: Prepare) -> None:
    work, code, errors = prepare({MACHINE: '[{"name": "a"}]'})
    assert code == 10, errors
    assert MACHINE in read_outcome(work)["message"]


def test_a_batch_that_the_processes_cannot_share_is_refused_early(tmp_path: Path, prepare: Prepare) -> None:
    work, code, errors = prepare({}, distributed={"numProcPerNode": 3})
    assert code == 10, errors
    assert "cannot be shared equally by 3 processes" in read_outcome(work)["message"]


def test_a_folder_that_cannot_fit_is_refused_before_its_weights_are_read(
    tmp_path: Path, tiny: Path, prepare: Prepare
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    (folder / "model.safetensors").write_bytes(b"not read")
    work, code, errors = prepare({MACHINE: json.dumps([SMALL])}, {"uri": str(folder)})
    assert code == 22, errors
    shutil.rmtree(work)
    # The same weights on a larger machine are read, and are broken.
    _, code, errors = prepare({MACHINE: json.dumps([LARGE])}, {"uri": str(folder)})
    assert code == 13, errors


def test_cpu_training_here_is_refused_only_if_it_cannot_fit_without_reserve(
    tmp_path: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def with_memory(memory: int) -> int:
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
        hardware = Hardware(memory=memory, available=memory, cpus=2)
        monkeypatch.setattr("tunesmith_trainer.prepare.planning.own_machine", lambda: own_machine(hardware))
        monkeypatch.setattr("tunesmith_trainer.prepare.planning.read_hardware", lambda: hardware)
        return prepare({})[1]

    work, code, errors = prepare({MACHINE: json.dumps([LARGE])})
    assert code == 0, errors
    config = JobConfig.model_validate_json((work / "config.json").read_bytes())
    shape, rows = prepared(work)
    tiny = choose(config.spec, shape, rows, parse_machines([{"name": "tiny", "cpus": 2, "memory": 1}]))
    assert not isinstance(tiny, Plan)
    assert tiny.plan is not None
    need, reserve = tiny.plan.stages["train"].memory, tiny.plan.rank.reserve
    caplog.clear()
    assert with_memory(need - reserve) == 0
    assert "train is planned to take" in caplog.text
    assert with_memory(need - reserve - 1) == 22


def prepared(work: Path) -> tuple[ModelShape, DataShape]:
    """The model and the rows that the stage has prepared."""
    data = read_result(work)["data"]
    shape = ModelShape.from_config(json.loads((work / "prepare/model/config.json").read_bytes()))
    return shape, DataShape(data["trainRows"], data["longestRow"], data["trainTokens"] / data["trainRows"])
