"""Where training holds a GPU, the models are evaluated there, and publish takes the results. Here the CPU is one."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from support.technique_runs import Runs
from support.trained_jobs import prepared, write_config
from support.training import child_environment, train, train_command
from tunesmith_api.work_folder import Stage
from tunesmith_trainer.publish import publish
from tunesmith_trainer.publish.evaluations import EXAMPLES
from tunesmith_trainer.stages.runner import run_stage

HERE = {"TUNESMITH_EVALUATE_IN_TRAIN": "1"}
TRAINING = {"maxSteps": 40, "globalBatchSize": 4, "learningRate": 0.01, "precision": "fp32"}


def job(work: Path, method: str = "lora", **sections: Any) -> Path:
    sections = {
        "training": TRAINING,
        "export": {"precisions": [], "mergeWeights": True},
        "distributed": {"numProcPerNode": 1},
        **sections,
    }
    return prepared(write_config(work, method=method, **sections))


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def published(work: Path) -> dict[str, Any]:
    run_stage(Stage.PUBLISH, publish, work)
    return read(work / "publish" / "evaluation.json")


@pytest.fixture(scope="module", params=["lora", "full", "qdora"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, runs: Runs) -> Path:
    work = job(tmp_path_factory.mktemp("evaluated") / "job", request.param)
    runs.stage(work, "train", **HERE)
    return work


def test_publish_takes_the_results_of_training(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, other = (shutil.copytree(trained, tmp_path / name) for name in ("job", "other"))
    (other / "train" / "evaluation.json").unlink()
    expected = published(other)
    for module in ("evaluations", "as_trained"):
        monkeypatch.setattr(f"tunesmith_trainer.publish.{module}.evaluate_model", None)  # it is not called
    found = published(work)
    models = {"before", "after"} | ({"asTrained"} if "asTrained" in expected else set())
    assert found["computedOn"] == dict.fromkeys(models, "cpu")
    assert found["computedIn"] == dict.fromkeys(models, "float32")
    for when in models:
        assert found[when] == pytest.approx(expected[when], rel=1e-4)
    assert found["before"]["evalLoss"] > found["after"]["evalLoss"] + 1
    assert found["examples"] == expected["examples"]
    assert len(found["examples"]) == min(12, EXAMPLES)
    lines = (work / "publish" / "predictions.jsonl").read_text()
    assert lines == (other / "publish" / "predictions.jsonl").read_text()


def test_a_changed_evaluation_is_computed_anew(trained: Path, tmp_path: Path) -> None:
    work = shutil.copytree(trained, tmp_path / "job")
    assert published(work)["rows"] == 12
    spec = read(work / "config.json")
    spec["spec"]["evaluation"] = {"maxRows": 3, "gates": [{"metric": "evalLoss", "max": 100}]}
    (work / "config.json").write_text(json.dumps(spec))
    shutil.rmtree(work / "artifact")
    assert published(work)["rows"] == 3
    taken = read(trained / "train" / "evaluation.json")["after"]["metrics"]
    assert read(work / "publish" / "evaluation.json")["after"] != taken


def test_a_changed_gate_is_not(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = shutil.copytree(trained, tmp_path / "job")
    spec = read(work / "config.json")
    spec["spec"]["evaluation"] = {"gates": [{"metric": "evalLoss", "max": 100}]}
    (work / "config.json").write_text(json.dumps(spec))
    monkeypatch.setattr("tunesmith_trainer.publish.evaluations.evaluate_model", None)
    assert published(work)["after"] == read(trained / "train" / "evaluation.json")["after"]["metrics"]


@pytest.mark.parametrize(("number", "processes"), [(signal.SIGKILL, 1), (signal.SIGTERM, 2)])
def test_a_killed_evaluation_is_repeated_and_training_is_not(
    number: signal.Signals, processes: int, tmp_path: Path
) -> None:
    work = job(tmp_path / "job", distributed={"numProcPerNode": processes, "strategy": "ddp"})
    process = subprocess.Popen(
        train_command(work), env=child_environment(**HERE), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not (work / "train" / "trained.json").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(number)
    _, stderr = process.communicate()
    if number is signal.SIGTERM:
        assert process.returncode == 66, stderr
        assert "while the models were evaluated" in read(work / "train-outcome.json")["message"]
    assert not (work / "train" / "stage.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (work / "train" / "final").iterdir()}
    done = train(work, **HERE)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in (work / "train" / "final").iterdir()} == before
    assert set(read(work / "train" / "evaluation.json")) == {"inputs", "before", "after"}
    assert read(work / "train" / "stage.json")["steps"] == 40


def test_what_cannot_be_evaluated_there_is_left_to_publish(tmp_path: Path) -> None:
    work = job(tmp_path / "job")
    with (work / "prepare" / "data" / "evaluation.jsonl").open("a") as file:
        file.write("no JSON\n")
    done = train(work, **HERE)
    assert done.returncode == 0, done.stderr
    assert "not evaluated on this GPU, but in publish: JSONDecodeError" in done.stderr
    assert not (work / "train" / "evaluation.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_nothing_is_evaluated_in_training(tmp_path: Path, run_here: Callable[[Path], Any]) -> None:
    work = job(tmp_path / "job", training={**TRAINING, "maxSteps": 8})
    run_here(work)
    assert not {"evaluation.json", "trained.json"} & {path.name for path in (work / "train").iterdir()}
