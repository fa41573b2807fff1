"""The answers of a large model without a GPU come from its export. Here a small model passes for a large one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.trained_jobs import ROWS, make_job
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.work_folder import Stage
from tunesmith_trainer.evaluate import evaluation
from tunesmith_trainer.publish import answers, publish
from tunesmith_trainer.stages.runner import run_stage

PARITY = {"rows": 4}


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the prompts that torch answers in evaluations."""
    counts: list[int] = []
    greedy = evaluation.greedy

    def counted(model: Any, prompts: Any, *arguments: Any, **options: Any) -> Any:
        counts.append(len(prompts))
        return greedy(model, prompts, *arguments, **options)

    monkeypatch.setattr(evaluation, "greedy", counted)
    return counts


def test_the_answers_of_a_large_model_come_from_its_export(
    tmp_path: Path, generated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = make_job(tmp_path / "job", export={"precisions": ["fp32"], "parity": PARITY})
    small = shutil.copytree(work, tmp_path / "small")
    run_stage(Stage.PUBLISH, publish, small)
    assert sum(generated) == 2 * len(ROWS)
    generated.clear()
    monkeypatch.setattr(answers, "is_slow", lambda folder: True)
    run_stage(Stage.PUBLISH, publish, work)
    assert sum(generated) == len(ROWS), "only the base model's"
    found, expected = (read(job / "publish" / "evaluation.json") for job in (work, small))
    assert found.pop("answeredBy") == "fp32"
    assert "answeredBy" not in expected
    assert found == expected, "in fp32 the server answers as torch does"
    manifests = [read(job / "artifact" / "manifest.json") for job in (work, small)]
    assert manifests[0]["metrics"] == manifests[1]["metrics"]
    lines = [(job / "publish" / "predictions.jsonl").read_text().splitlines() for job in (work, small)]
    for line, other in zip(*(map(json.loads, part) for part in lines), strict=True):
        assert line["after"] == line["served"]["fp32"]
        assert line["reference"] == other["reference"]


def test_a_gate_on_answers_is_checked_when_they_are_there(
    tmp_path: Path, generated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "is_slow", lambda folder: True)
    gates = [{"metric": "exactMatch", "min": 0.9}, {"metric": "evalLoss", "max": 100}]
    export = {"precisions": ["int4"], "parity": {**PARITY, "minNextTokenAgreement": 0, "maxPerplexityIncrease": 100}}
    work = make_job(tmp_path / "job", evaluation={"gates": gates}, export=export)
    with pytest.raises(StageError, match="exactMatch is 0, the gate needs at least 0.9") as caught:
        run_stage(Stage.PUBLISH, publish, work)
    assert caught.value.reason is Reason.GATE_FAILED
    assert read(work / "publish" / "evaluation.json")["answeredBy"] == "int4"
    of = [(gate["metric"], gate.get("served"), gate["passed"]) for gate in json.loads(
        (work / "publish" / "gates.json").read_text()
    )]  # fmt: skip
    assert of == [
        ("exactMatch", None, False), ("evalLoss", None, True), ("exactMatch", "int4", False), ("evalLoss", "int4", True)
    ]  # fmt: skip
    # Without an export torch has to answer after all.
    generated.clear()
    config = read(work / "config.json")
    config["spec"] |= {"export": {"precisions": []}, "evaluation": {}}
    (work / "config.json").write_text(json.dumps(config))
    run_stage(Stage.PUBLISH, publish, work)
    assert "answeredBy" not in read(work / "publish" / "evaluation.json")
    assert sum(generated) >= len(ROWS)


def test_other_gates_stop_a_large_model_before_its_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "is_slow", lambda folder: True)
    gates = [{"metric": "exactMatch", "min": 0.9}, {"metric": "evalLoss", "max": 0.001}]
    work = make_job(tmp_path / "job", evaluation={"gates": gates}, export={"precisions": ["fp32"], "parity": PARITY})
    with pytest.raises(StageError, match="1 of 1 gates failed: evalLoss"):
        run_stage(Stage.PUBLISH, publish, work)
    assert not (work / "publish" / "onnx").exists()
