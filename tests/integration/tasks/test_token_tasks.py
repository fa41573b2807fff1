"""Jobs of token classification and question answering, from rows that follow a rule to what their server answers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from support.token_jobs import write_token_job
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.prepare.pipeline import prepare
from tunesmith_trainer.publish import publish
from tunesmith_trainer.stages.runner import run_stage
from tunesmith_trainer.stages.train import run_train_stage
from tunesmith_trainer.train.distributed.topology import NodeTopology

SHORT = {"maxSteps": 60, "learningRate": 0.005, "globalBatchSize": 16, "maxLength": 24}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def published(work: WorkFolder) -> dict[str, Any]:
    return dict(run_stage(Stage.PUBLISH, publish, work.root))


def evaluation(work: WorkFolder) -> dict[str, Any]:
    return dict(json.loads((work.stage(Stage.PUBLISH) / "evaluation.json").read_text()))


def require_served_as_trained(result: dict[str, Any]) -> None:
    assert result["metrics"]["served"]["fp32"] == pytest.approx(result["metrics"]["after"], rel=1e-5)
    assert result["parity"]["fp32"]["maxLogitDifference"] < 1e-4
    assert result["parity"]["template"]["rows"] > 0


def test_tags_of_rows_that_are_cut_between_words_and_a_resumed_run(tmp_path: Path) -> None:
    gates = {"maxRows": 40, "gates": [{"metric": "f1", "min": 0.95}]}
    training = {**SHORT, "checkpoint": {"everySteps": 25}}
    work = write_token_job(tmp_path, "tokenTags", words=30, training=training, evaluation=gates)
    data = run_stage(Stage.PREPARE, prepare, work.root)["data"]
    assert data["facts"]["labels"] == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert data["facts"]["scheme"] == "bio"
    assert data["truncatedRows"] == 240
    assert data["validationRows"] > 40
    assert data["longestRow"] == 24
    run_train_stage(work, NodeTopology())
    final = work.final / "model.safetensors"
    expected = final.read_bytes()
    (work.stage(Stage.TRAIN) / "stage.json").unlink()
    run_train_stage(work, NodeTopology())
    assert json.loads((work.stage(Stage.TRAIN) / "metrics.json").read_text())["resumedFromStep"] == 50
    assert final.read_bytes() == expected
    result = published(work)
    before, after = result["metrics"]["before"], result["metrics"]["after"]
    assert before["f1"] < 0.5 < 0.95 <= after["f1"]
    require_served_as_trained(result)
    found = evaluation(work)
    assert found["entities"]["after"]["PER"]["f1"] > 0.9
    assert found["entities"]["after"]["PER"]["support"] > 100  # all pieces of the rows, not the first alone
    assert found["examples"][0]["after"] == found["examples"][0]["reference"]
    config = json.loads((work.artifact / "onnx" / "fp32" / "config.json").read_text())
    assert config["id2label"] == {"0": "O", "1": "B-LOC", "2": "I-LOC", "3": "B-PER", "4": "I-PER"}


def test_spans_with_an_adapter_of_roberta(tmp_path: Path) -> None:
    training = {**SHORT, "learningRate": 0.02}
    work = write_token_job(
        tmp_path, "textSpans", family="roberta", method="lora", adapter={"rank": 8}, training=training
    )
    run_stage(Stage.PREPARE, prepare, work.root)
    run_train_stage(work, NodeTopology())
    result = published(work)
    assert result["metrics"]["before"]["f1"] < 0.2 < 0.6 < result["metrics"]["after"]["f1"]
    require_served_as_trained(result)
    assert result["parity"]["merge"]["mergedLogitDifference"] < 1e-4


def test_questions_with_windows_and_without_an_answer(tmp_path: Path) -> None:
    training = {**SHORT, "maxLength": 40, "maxSteps": 80}
    precisions = {"precisions": ["fp32", "int8"]}
    work = write_token_job(
        tmp_path, "squad", words=40, method="lora", adapter={"rank": 8}, training=training, export=precisions
    )
    data = run_stage(Stage.PREPARE, prepare, work.root)["data"]
    assert (data["trainRows"], data["validationRows"]) == (400, 80)  # two windows a row
    run_train_stage(work, NodeTopology())
    result = published(work)
    assert result["metrics"]["before"]["exactMatch"] < 0.3 < 0.9 <= result["metrics"]["after"]["exactMatch"]
    require_served_as_trained(result)
    assert result["metrics"]["served"]["int8"]["exactMatch"] >= 0.9
    found = evaluation(work)
    assert (
        found["byAnswer"]["after"]["hasAnswer"]["questions"] + found["byAnswer"]["after"]["noAnswer"]["questions"] == 40
    )
    lines = [json.loads(line) for line in (work.artifact / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 40
    assert [line["served"]["fp32"] for line in lines] == [line["after"] for line in lines]
    task = json.loads((work.artifact / "onnx" / "fp32" / "task.json").read_text())
    assert task == {"task": "questionAnswering", "maxLength": 40, "stride": 10}
