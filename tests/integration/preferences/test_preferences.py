"""A job with `objective: dpo`, from rows to what is served."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.preference_jobs import opinions
from support.prepare_runs import write_job
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.data.report import REPORT
from tunesmith_trainer.prepare.pipeline import prepare
from tunesmith_trainer.publish import publish
from tunesmith_trainer.stages.runner import run_stage
from tunesmith_trainer.stages.train import run_train_stage
from tunesmith_trainer.train.distributed.topology import NodeTopology

TRAINING = {"maxSteps": 30, "learningRate": 0.003, "globalBatchSize": 8, "maxLength": 128}
GATES = [{"metric": "rewardAccuracy", "min": 0.9}, {"metric": "rewardMargin", "min": 0.2}]


def make_job(work: Path, rows: list[dict[str, Any]], **spec: Any) -> Path:
    work.mkdir(parents=True, exist_ok=True)
    data = work / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = {"validation": {"fraction": 0.2}}
    given = {"objective": "dpo", "training": TRAINING, "evaluation": {"gates": GATES, "maxNewTokens": 16}, **spec}
    return write_job(work, data, dataset=dataset, **given)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[WorkFolder, dict[str, Any]]:
    torch.set_num_threads(1)
    work = WorkFolder(make_job(tmp_path_factory.mktemp("dpo"), opinions(60)))
    run_stage(Stage.PREPARE, prepare, work.root)
    run_train_stage(work, NodeTopology())
    return work, run_stage(Stage.PUBLISH, publish, work.root)["metrics"]


def test_the_better_answers_are_preferred_afterwards(published: tuple[WorkFolder, dict[str, Any]]) -> None:
    _, metrics = published
    before, after, served = metrics["before"], metrics["after"], metrics["served"]["int4"]
    assert (before["rewardAccuracy"], before["rewardMargin"]) == (0.5, 0.0)
    assert before["evalLoss"] == pytest.approx(math.log(2))
    for found in (after, served):
        assert found["rewardAccuracy"] >= 0.9
        assert found["rewardMargin"] > 0.2
        assert found["evalLoss"] < 0.6
        assert found["perplexity"] < before["perplexity"]
        assert 0 <= found["tokenAccuracy"] <= 1
        assert found["rougeL"] is not None
    assert served["rewardMargin"] == pytest.approx(after["rewardMargin"], rel=0.2)


def test_the_artifact_tells_of_it(published: tuple[WorkFolder, dict[str, Any]]) -> None:
    work, metrics = published
    manifest = json.loads((work.artifact / "manifest.json").read_text())
    assert manifest["task"] == "textGeneration"
    assert manifest["metrics"] == metrics
    assert [gate["passed"] for gate in manifest["gates"]] == [True] * 4
    assert manifest["parity"]["template"]["rows"] > 0
    answers = [json.loads(line) for line in (work.artifact / "predictions.jsonl").read_text().splitlines()]
    assert all(line["reference"].startswith("Thank you, ") for line in answers)
    marker = json.loads(work.stage_marker(Stage.PREPARE).read_text())["data"]
    assert (marker["format"], marker["trainRows"], marker["validationRows"]) == ("preference", 48, 12)
    log = [json.loads(line) for line in work.training_log.read_text().splitlines()]
    assert log[-1]["rewardAccuracy"] > 0.9 > log[0]["rewardAccuracy"]
    assert log[-1]["evalRewardMargin"] == pytest.approx(metrics["after"]["rewardMargin"], rel=0.05)
    assert log[-1]["tokens"] > marker["trainTokens"] / 48 * 8 * 25, "both answers are counted"


def test_a_gate_that_fails_says_so(published: tuple[WorkFolder, dict[str, Any]]) -> None:
    work, metrics = published
    config = json.loads(work.config.read_text())
    config["spec"]["evaluation"]["gates"] = [{"metric": "rewardMargin", "min": 1000}]
    work.config.write_text(json.dumps(config))
    with pytest.raises(StageError, match=r"rewardMargin is .*, the gate needs at least 1000") as caught:
        run_stage(Stage.PUBLISH, publish, work.root)
    assert caught.value.reason is Reason.GATE_FAILED


def test_rows_that_ask_for_another_objective_are_told_so(tmp_path: Path) -> None:
    work = make_job(tmp_path, opinions(4), objective="supervised", evaluation={})
    with pytest.raises(StageError, match="preference data") as caught:
        run_stage(Stage.PREPARE, prepare, work)
    assert "objective: dpo" in caught.value.remedy
    other = make_job(tmp_path / "other", [{"prompt": "a", "completion": "b"}] * 4)
    with pytest.raises(StageError, match="not recognised") as caught:
        run_stage(Stage.PREPARE, prepare, other)


def test_both_answers_are_in_what_is_prepared(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from tunesmith_trainer.data.pairs import unpacked
    from tunesmith_trainer.data.token_store import TokenStore

    rows = opinions(30)
    work = make_job(tmp_path, rows)
    run_stage(Stage.PREPARE, prepare, work)
    tokenizer = AutoTokenizer.from_pretrained(work / "prepare" / "model")
    store = TokenStore.open(work / "prepare" / "data" / "train")
    found = set()
    for index in range(len(store)):
        ids, mask, targets = store[index]
        other, other_mask = unpacked(targets)
        answers = [tokenizer.decode(x[m.astype(bool)]) for x, m in ((ids, mask), (other, other_mask))]
        assert np.array_equal(ids[: mask.argmax()], other[: other_mask.argmax()]), "the prompt is the same"
        found.add(tuple(answer.removesuffix("<|im_end|>") for answer in answers))
    assert found <= {(row["chosen"], row["rejected"]) for row in rows}
    assert len(found) == 24
    report = json.loads((work / "prepare" / "data" / REPORT).read_text())
    assert report["contradictions"]["rows"] == 0
    learned = ["".join(p["text"] for p in sample["pieces"] if p["target"]) for sample in report["samples"]]
    assert learned[0].startswith("Thank you") and learned[1].startswith("Go away")
