"""prepare, train and publish as commands, from rows to an artifact that has learned them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

COLOURS = ["red", "blue", "green", "black", "white", "brown", "pink", "grey", "gold", "teal"]
ROWS = [
    {"prompt": f"{question} {colour}?", "completion": f"{answer} {number * 7 + 3} and {colour}."}
    for number, colour in enumerate(COLOURS)
    for question, answer in (("What number is", "The number is"), ("Who lives in the house of", "A family of"))
]


BEGINNINGS = ["", "Tell me: ", "Please: ", "Now: ", "Quick: "]
EPOCHS = 40


def write_rows(path: Path, *, kept_out: bool) -> dict[str, str]:
    """Write every row with four of the five beginnings, or with the one that it is not trained with."""
    rows = [
        {**row, "prompt": beginning + row["prompt"]}
        for number, row in enumerate(ROWS)
        for index, beginning in enumerate(BEGINNINGS)
        if (index == number % len(BEGINNINGS)) is kept_out
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"uri": str(path)}


def make_job(work: Path, gates: list[dict[str, Any]]) -> Path:
    """A scratch job whose validation rows are the training rows with other beginnings."""
    work.mkdir()
    source = write_rows(work / "rows.jsonl", kept_out=False)
    validation = write_rows(work / "validation.jsonl", kept_out=True)
    sizes = {"hiddenSize": 128, "intermediateSize": 256, "numHiddenLayers": 2, "vocabSize": 400}
    spec = {
        "model": {"scratch": {"architecture": "llama", "maxPositionEmbeddings": 128, **sizes}},
        "method": "full",
        "dataset": {"sources": [source], "format": "promptCompletion", "validation": {"sources": [validation]}},
        "training": {"epochs": EPOCHS, "learningRate": 3e-3, "globalBatchSize": 10, "maxLength": 128},
        "evaluation": {"gates": gates, "maxNewTokens": 40},
        "export": {"precisions": ["fp32", "int4"]},
    }
    (work / "config.json").write_text(json.dumps({"name": "colours", "spec": spec}))
    return work


def stage(work: Path, name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tunesmith_trainer", name, "--work", str(work)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def test_rows_become_an_artifact_that_has_learned_them(tmp_path: Path) -> None:
    work = make_job(tmp_path / "job", [{"metric": "exactMatch", "min": 0.9}, {"metric": "perplexity", "max": 1.5}])
    for name in ("prepare", "train", "publish"):
        done = stage(work, name)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    manifest = json.loads((work / "artifact" / "manifest.json").read_text())
    assert manifest["metrics"]["before"]["exactMatch"] == 0
    assert manifest["metrics"]["after"]["exactMatch"] >= 0.9
    assert [gate["passed"] for gate in manifest["gates"]] == [True] * 2 * 3  # of the tuned model, and as it is served
    assert manifest["parity"]["fp32"]["greedyAgreement"] == 1
    assert manifest["parity"]["fp32"]["maxLogitDifference"] < 1e-3
    assert manifest["parity"]["int4"]["nextTokenAgreement"] >= 0.9
    assert manifest["parity"]["int4"]["perplexityIncrease"] <= 0.1
    assert manifest["data"]["validationRows"] == len(ROWS)
    assert manifest["baseModel"]["uri"] == "scratch"
    log = (work / "artifact" / "training_log.jsonl").read_text().splitlines()
    assert len(log) == manifest["training"]["steps"] == 8 * EPOCHS
    examples = json.loads((work / "artifact" / "evaluation.json").read_text())["examples"]
    assert sum(example["after"].strip() == example["reference"].strip() for example in examples) >= 18

    # Run again, each does nothing; with another gate only publish does, and stops there.
    before = (work / "artifact" / "manifest.json").stat().st_mtime_ns
    for name in ("prepare", "train", "publish"):
        again = stage(work, name)
        assert (again.returncode, "complete already" in again.stderr) == (0, True), again.stderr
    assert (work / "artifact" / "manifest.json").stat().st_mtime_ns == before
    config = json.loads((work / "config.json").read_text())
    config["spec"]["evaluation"]["gates"] = [{"metric": "perplexity", "max": 0.5}]
    config["spec"]["output"] = {"uri": str(tmp_path / "elsewhere")}
    (work / "config.json").write_text(json.dumps(config))
    assert "complete already" in stage(work, "train").stderr
    failed = stage(work, "publish")
    assert failed.returncode == 16, failed.stderr
    assert "GateFailed: 1 of 1 gates failed: perplexity is 1." in failed.stderr
    assert "the gate needs at most 0.5" in failed.stderr
    assert not (tmp_path / "elsewhere").exists()
    assert json.loads((work / "publish-outcome.json").read_text())["reason"] == "GateFailed"
