"""Whole jobs on tiny base models: a rule is learned from 200 rows, and what is published says how well."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.label_rows import animal_rows, classification_job
from tunesmith_api.failures import StageError
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.prepare.pipeline import prepare
from tunesmith_trainer.stages.runner import run_stage

TRAINING = {"maxSteps": 60, "learningRate": 0.01, "globalBatchSize": 16, "maxLength": 32}


@pytest.mark.parametrize(("family", "method"), [("bert", "lora"), ("llama", "lora"), ("llama", "full")])
def test_a_rule_is_learned(
    family: str, method: str, base_of: Callable[..., Path], run_stages: Callable[[Path], Any], tmp_path: Path
) -> None:
    gates = {"maxRows": 40, "gates": [{"metric": "accuracy", "min": 0.85}]}
    job = classification_job(
        tmp_path / "job", base_of(family), animal_rows(), method=method, training=TRAINING, evaluation=gates
    )
    manifest = run_stages(job)
    artifact = WorkFolder(job).artifact
    metrics = manifest["metrics"]
    assert metrics["after"]["accuracy"] >= 0.85 > metrics["before"]["accuracy"]
    assert set(metrics["after"]) == {"evalLoss", "accuracy", "macroF1"}
    assert metrics["served"]["fp32"] == pytest.approx(metrics["after"], abs=1e-4)  # by the server's own code
    assert manifest["parity"]["template"]["rows"] == 40
    assert manifest["data"]["facts"]["labels"] == ["animal", "machine"]
    evaluation = json.loads((artifact / "evaluation.json").read_text())
    assert sum(row["support"] for row in evaluation["classes"]["after"]) == 40
    assert sum(pair["rows"] for pair in evaluation["confusions"]) == 40
    losses = [example["after"]["loss"] for example in evaluation["examples"]]
    assert losses == sorted(losses, reverse=True)
    lines = [json.loads(line) for line in (artifact / "predictions.jsonl").read_text().splitlines()]
    right = sum(line["after"]["label"] == line["reference"] for line in lines)
    assert right / len(lines) == metrics["after"]["accuracy"]
    assert lines[0]["after"]["scores"].keys() == {"animal", "machine"}
    assert "<svg" in (artifact / "confusion.svg").read_text()
    config = json.loads((artifact / "onnx" / "fp32" / "config.json").read_text())
    assert config["id2label"] == {"0": "animal", "1": "machine"}
    assert config["problem_type"] == "single_label_classification"
    assert json.loads((artifact / "onnx" / "fp32" / "task.json").read_text()) == {
        "task": "sequenceClassification", "maxLength": 32, "problemType": "single_label_classification",
    }  # fmt: skip


def test_several_labels_with_pairs_of_texts(
    base_of: Callable[..., Path], run_stages: Callable[[Path], Any], tmp_path: Path
) -> None:
    rows = [
        {"text": row["text"], "textPair": other["text"], "labels": sorted({row["label"], other["label"]})}
        for row, other in zip(animal_rows(), animal_rows(seed=1), strict=True)
    ]
    rows[3]["labels"] = []
    job = classification_job(
        tmp_path / "job", base_of("bert"), rows, training={**TRAINING, "maxSteps": 30}, export={"precisions": ["fp32"]}
    )
    manifest = run_stages(job)
    after, before = manifest["metrics"]["after"], manifest["metrics"]["before"]
    assert after["evalLoss"] < before["evalLoss"]
    assert manifest["metrics"]["served"]["fp32"] == pytest.approx(after, abs=1e-4)
    assert manifest["data"]["facts"]["problemType"] == "multi_label_classification"
    artifact = WorkFolder(job).artifact
    line = json.loads((artifact / "predictions.jsonl").read_text().splitlines()[0])
    assert set(line["prompt"]) == {"text", "text_pair"}
    assert isinstance(line["after"]["labels"], list)
    assert not (artifact / "confusion.svg").exists()


def test_numbers(base_of: Callable[..., Path], run_stages: Callable[[Path], Any], tmp_path: Path) -> None:
    rows = [{**row, "label": 0.5 if row["label"] == "animal" else 2.5} for row in animal_rows()]
    job = classification_job(
        tmp_path / "job", base_of("llama"), rows, training=TRAINING, export={"precisions": ["fp32"]}
    )
    metrics = run_stages(job)["metrics"]
    assert metrics["served"]["fp32"] == pytest.approx(metrics["after"], abs=1e-4)
    assert metrics["after"]["mse"] < 0.5 * metrics["before"]["mse"]
    assert metrics["after"]["spearman"] > 0.7
    assert set(metrics["after"]) == {"evalLoss", "mse", "spearman"}
    config = json.loads((WorkFolder(job).artifact / "onnx" / "fp32" / "config.json").read_text())
    assert config["problem_type"] == "regression"


def test_rare_classes_are_split_and_weighed(base_of: Callable[..., Path], tmp_path: Path) -> None:
    rows = animal_rows()
    for row in rows[:7]:
        row["label"] = "plant"
    job = classification_job(
        tmp_path / "job", base_of("bert"), rows, classification={"classWeights": "balanced"},
        dataset={"sources": [{"uri": str(tmp_path / "job" / "rows.jsonl")}], "validation": {"fraction": 0.3}},
    )  # fmt: skip
    run_stage(Stage.PREPARE, prepare, job)
    data = job / "prepare" / "data"
    kept = [json.loads(line)["reference"] for line in (data / "evaluation.jsonl").read_text().splitlines()]
    assert len(kept) == 60
    assert kept.count("plant") == 2
    report = json.loads((data / "data_report.json").read_text())["labels"]
    assert report["count"] == 3
    assert report["classes"][-1] == {"label": "plant", "rows": 7}
    facts = json.loads((job / "prepare" / "stage.json").read_text())["data"]["facts"]
    assert facts["classWeights"][2] == pytest.approx(200 / (3 * 7))


def test_a_gate_on_another_metric_fails_before_training(base_of: Callable[..., Path], tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": index / 7} for index, row in enumerate(animal_rows(20))]
    gates = {"gates": [{"metric": "accuracy", "min": 0.5}]}
    job = classification_job(tmp_path / "job", base_of("bert"), rows, evaluation=gates)
    with pytest.raises(StageError, match="accuracy is no metric of these rows, whose labels are numbers"):
        run_stage(Stage.PREPARE, prepare, job)
