"""qlora and qdora from rows to an answer of the server."""

import json
from pathlib import Path

import pytest

from support.manifests import config_map, job
from support.tiny_models import build_model
from tunesmith_api.methods import METHODS
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.prepare.pipeline import prepare
from tunesmith_trainer.publish import publish
from tunesmith_trainer.stages.runner import run_stage
from tunesmith_trainer.stages.train import run_train_stage
from tunesmith_trainer.train.distributed.topology import NodeTopology

QUANTIZED = [name for name, info in METHODS.items() if info.is_quantized]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", QUANTIZED)
def test_rows_become_answers_of_the_server(method: str, tmp_path: Path) -> None:
    """The answers in predictions.jsonl are those that the server's own code gives with the int4 export."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(config_map()["data"]["rows.jsonl"])
    parity = {"rows": 2, "minNextTokenAgreement": 0, "maxPerplexityIncrease": 100}  # random weights lose much in int4
    spec = job(
        method=method,
        model={"uri": str(build_model(tmp_path / "base", layers=1))},
        dataset={"sources": [{"uri": str(rows)}], "validation": {"fraction": 0.1}},
        training={"maxSteps": 30, "learningRate": 0.01, "globalBatchSize": 4, "maxLength": 128},
        evaluation={"maxNewTokens": 8},
        export={"precisions": ["int4"], "parity": parity},
    )["spec"]
    work = WorkFolder(tmp_path / "work")
    work.root.mkdir()
    work.config.write_text(json.dumps({"name": "job", "spec": spec}))
    run_stage(Stage.PREPARE, prepare, work.root)
    run_train_stage(work, NodeTopology())
    marker = run_stage(Stage.PUBLISH, publish, work.root)
    metrics, merge = marker["metrics"], marker["parity"]["merge"]
    assert metrics["after"]["evalLoss"] < metrics["before"]["evalLoss"] - 0.5
    assert merge["mergedPerplexity"] == pytest.approx(merge["trainedPerplexity"], rel=1e-4)
    assert metrics["served"]["int4"]["evalLoss"] < metrics["before"]["evalLoss"]
    lines = [json.loads(line) for line in (work.artifact / "predictions.jsonl").read_text().splitlines()]
    assert any(line["served"]["int4"] for line in lines)
