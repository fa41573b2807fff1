"""Training that ends before its last step, and publishes the weights that were the best on the validation rows."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from support.technique_runs import Runs
from support.training import VOCABULARY, log_of, train, training_job

Run = Callable[[Path], dict[str, Any]]
Job = Callable[..., Path]

TRAINING = {
    "maxSteps": 40,
    "globalBatchSize": 4,
    "learningRate": 0.005,
    "evalSteps": 2,
    "checkpoint": {"everySteps": 1, "keep": 100},
}
STOPPING = {**TRAINING, "earlyStopping": {"patience": 3}}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Make a job that learns a rule, and is validated on noise: after some steps the loss on it can only rise."""
    from tunesmith_trainer.data.token_store import TokenStore

    def make(name: str = "job", **choices: Any) -> Path:
        work = training_job(tmp_path / name, **{"rows": 8, **choices})
        random = np.random.default_rng(3)
        noise = [(random.integers(0, VOCABULARY, 20).tolist(), [0] * 4 + [1] * 16) for _ in range(20)]
        TokenStore.write(work / "prepare" / "data" / "validation", noise if choices.get("validation") != 0 else [])
        return work

    return make


def evaluations(work: Path) -> list[tuple[int, float]]:
    return [(entry["step"], entry["evalLoss"]) for entry in log_of(work) if "evalLoss" in entry]


def published(work: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((work / "train" / "final").iterdir())}


def tensors(work: Path) -> dict[str, Any]:
    (path,) = (work / "train" / "final").glob("*.safetensors")
    return dict(load_file(path))


def same_weights(work: Path, step: int) -> bool:
    """Whether the published weights are those of a checkpoint."""
    (path,) = (work / "train" / "final").glob("*.safetensors")
    stored = load_file(work / "train" / "checkpoints" / f"checkpoint-{step}" / path.name)
    return all(np.array_equal(tensor, stored[name]) for name, tensor in load_file(path).items())


def begin_again(work: Path, last: int) -> None:
    """Leave of a complete stage what a run that was killed after the checkpoint of step `last` had left."""
    for name in ("final", "best"):
        shutil.rmtree(work / "train" / name, ignore_errors=True)
    (work / "train" / "stage.json").unlink(missing_ok=True)
    for checkpoint in (work / "train" / "checkpoints").iterdir():
        if int(checkpoint.name.removeprefix("checkpoint-")) > last:
            shutil.rmtree(checkpoint)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_it_stops_and_publishes_the_best_weights(method: str, job: Job, run_here: Run, caplog: Any) -> None:
    caplog.set_level("INFO")
    options = {"method": method}
    work = job("stopped", training=STOPPING, **options)
    marker = run_here(work)
    losses = evaluations(work)
    best, last = marker["bestStep"], marker["steps"]
    assert [step for step, _ in losses] == list(range(2, last + 1, 2)), "each is evaluated once"
    assert last == best + 6 < 40
    assert marker["bestEvalLoss"] == dict(losses)[best] == min(loss for _, loss in losses)
    assert marker["evalLoss"] == losses[-1][1]
    assert marker["publishedStep"] == best
    assert marker["stoppedEarly"].startswith(f"after step {last} of 40: in 3 evaluations the validation loss has not")
    assert marker["epochs"] == last * 4 / 8
    assert marker["tokens"] == log_of(work)[-1]["tokens"]
    assert f"stopped early, {marker['stoppedEarly']}" in caplog.messages
    progress = json.loads((work / "progress.json").read_text())
    assert (progress["step"], progress["totalSteps"], progress["etaSeconds"]) == (last, last, 0)
    assert (progress["bestStep"], progress["stoppedEarly"]) == (best, marker["stoppedEarly"])
    assert not (work / "train" / "best").exists()

    assert same_weights(work, best)
    assert not same_weights(work, last - 1)

    result = published(work)
    for step in (best - 1, best, best + 3):  # as if it had been killed there
        begin_again(work, step)
        assert run_here(work) == marker
        assert published(work) == result
        assert evaluations(work) == losses
        assert json.loads((work / "train" / "metrics.json").read_text())["resumedFromStep"] == step


def test_the_last_weights_are_published_on_request(job: Job, run_here: Run) -> None:
    work = job("last", training={**STOPPING, "loadBestModelAtEnd": False})
    marker = run_here(work)
    assert marker["stoppedEarly"]
    assert marker["publishedStep"] == marker["steps"] > marker["bestStep"]
    assert not list((work / "train" / "checkpoints").glob("*/best")), "nothing is kept that is not published"
    assert not same_weights(work, marker["bestStep"])


def test_the_best_weights_without_early_stopping(job: Job, run_here: Run, caplog: Any) -> None:
    caplog.set_level("INFO")
    checkpoint = {"everySteps": 1, "keep": 1}  # rotation removes all checkpoints up to the best step
    training = {**TRAINING, "maxSteps": 24, "evalSteps": 5, "loadBestModelAtEnd": True, "checkpoint": checkpoint}
    work = job("best", training=training)
    marker = run_here(work)
    assert [step for step, _ in evaluations(work)] == [5, 10, 15, 20, 24], "the last step is evaluated too"
    assert (marker["steps"], marker["stoppedEarly"]) == (24, None)
    assert marker["publishedStep"] == marker["bestStep"] < 20
    lines = [line for line in caplog.messages if line.startswith("step 24/24")]
    assert len(lines) == 1
    result = published(work)
    begin_again(work, 24)
    assert [path.name for path in (work / "train" / "checkpoints").iterdir()] == ["checkpoint-23"]
    assert run_here(work) == marker
    assert published(work) == result


@pytest.mark.parametrize("method", ["qdora", "oft"])
def test_saving_the_best_weights_does_not_disturb_training(method: str, tmp_path: Path, run_here: Run) -> None:
    training = {**TRAINING, "maxSteps": 6, "evalSteps": 1}
    plain = training_job(tmp_path / "plain", method=method, training=training)
    work = training_job(tmp_path / "best", method=method, training={**training, "loadBestModelAtEnd": True})
    run_here(plain)
    assert run_here(work)["bestStep"] > 1, "some weights were saved in the middle"
    names = ("loss", "evalLoss", "gradNorm")
    for mine, theirs in zip(log_of(work), log_of(plain), strict=True):
        assert [mine[name] for name in names] == [theirs[name] for name in names]


def test_the_last_step_can_be_the_best(tmp_path: Path, run_here: Run) -> None:
    training = {**TRAINING, "maxSteps": 5, "loadBestModelAtEnd": True}
    work = training_job(tmp_path / "best", training=training)
    plain = training_job(tmp_path / "plain", training={**training, "loadBestModelAtEnd": False})
    assert run_here(work)["bestStep"] == 5
    run_here(plain)
    assert published(work) == published(plain)


def test_without_validation_rows_it_is_refused(job: Job, run_here: Run) -> None:
    from tunesmith_api.failures import Reason, StageError

    work = job(training=STOPPING, validation=0)
    with pytest.raises(StageError) as caught:
        run_here(work)
    assert caught.value.reason is Reason.INVALID_DATASET
    assert "spec.training.earlyStopping" in caught.value.message
    assert "spec.dataset.validation: {fraction: 0.05}" in caught.value.remedy


def test_two_processes_stop_after_the_same_step(job: Job, run_here: Run, runs: Runs) -> None:
    one = job("one", training=STOPPING)
    two = job("two", training=STOPPING, distributed={"numProcPerNode": 2, "strategy": "zero3"})
    expected = run_here(one)
    marker = runs.train(two)[0]["result"]
    names = ("steps", "bestStep", "publishedStep")
    assert [marker[name] for name in names] == [expected[name] for name in names]
    mine, theirs = tensors(one), tensors(two)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        np.testing.assert_allclose(theirs[name], tensor, atol=1e-4, err_msg=name)
    result = published(two)
    begin_again(two, marker["bestStep"] + 1)
    assert runs.train(two)[0]["result"] == marker
    assert published(two) == result


@pytest.mark.parametrize(("processes", "packing"), [(1, False), (1, True), (2, False)])
def test_a_loss_that_is_no_number_names_its_rows(processes: int, packing: bool, tmp_path: Path) -> None:
    """One token of one row has weights that are not finite; under two processes the rows are those of its own."""
    from safetensors.numpy import save_file

    from tunesmith_trainer.data.row_locations import RowLocationsWriter
    from tunesmith_trainer.data.token_store import TokenStore

    training = {"maxSteps": 3, "globalBatchSize": 8, "microBatchSize": 2, "evalSteps": 9, "packing": packing}
    work = training_job(tmp_path / "job", training=training, distributed={"numProcPerNode": processes}, rows=24)
    rows = [([1, 2, 3 + number], [0, 1, 1]) for number in range(24)]
    rows[17] = ([1, 2, 100, 4], [0, 1, 1, 1])
    folder = work / "prepare" / "data" / "train"
    TokenStore.write(folder, rows)
    with RowLocationsWriter(folder) as locations:
        for number in range(24):
            locations.add(f"/data/part-{number // 12}.jsonl:{number + 100}")
    path = work / "prepare" / "model" / "model.safetensors"
    weights = dict(load_file(path))
    weights["model.embed_tokens.weight"][100] = np.nan
    save_file(weights, path, metadata={"format": "pt"})
    done = train(work)
    assert done.returncode == 15, done.stderr
    outcome = json.loads((work / "train-outcome.json").read_text())
    assert outcome["reason"] == "TrainingDiverged"
    assert "is nan, on rows " in outcome["message"]
    named = outcome["message"].split("on rows ")[1].split(". The")[0].split(", ")
    assert len(named) < 5, "the rows of one forward pass"
    assert "/data/part-1.jsonl:117" in named
    if ". The step before" in outcome["message"]:
        assert "same rows" in outcome["remedy"]
    else:
        assert "no weight has changed" in outcome["remedy"]
