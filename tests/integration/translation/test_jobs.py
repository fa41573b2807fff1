"""Whole translation jobs on tiny models: they learn a dictionary, are exported, and answered by the server's code."""

import json
import shutil
from pathlib import Path

import pytest

from support.training import log_of
from support.translation_jobs import build_translator, nested_rows, run_job, translated, translation_job
from tunesmith_api.work_folder import Stage, WorkFolder

TRAINING = {"maxSteps": 110, "learningRate": 0.01, "globalBatchSize": 16, "maxLength": 64}


def flat_rows() -> list[dict[str, str]]:
    """Pairs in other columns, whose verbs mean something else than in `nested_rows`."""
    verbs = dict(zip(("sees", "likes", "seeks", "finds"), ("likes", "sees", "finds", "seeks"), strict=True))
    pairs = [row["translation"] for row in nested_rows(120)]
    return [
        {"src": pair["de"], "tgt": " ".join(verbs.get(word, word) for word in pair["en"].split())} for pair in pairs
    ]


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> tuple[WorkFolder, dict]:
    base = build_translator(tmp_path_factory.mktemp("base"), "marian")
    work = translation_job(tmp_path_factory.mktemp("marian"), base, nested_rows(), training=TRAINING)
    return work, run_job(work)


def test_all_weights_learn_and_the_server_translates_alike(marian):
    work, result = marian
    before, after, served = (result["metrics"][name] for name in ("before", "after", "served"))
    assert before["chrf"] < 20
    assert after["chrf"] > 70
    assert after["exactMatch"] > before["exactMatch"] == 0
    assert after["bleu"] > 30
    for name in ("evalLoss", "bleu", "chrf", "exactMatch"):
        assert served["fp32"][name] == pytest.approx(after[name], abs=1e-4), name
    assert served["int8"]["evalLoss"] == pytest.approx(after["evalLoss"], abs=0.1)
    assert result["parity"]["fp32"]["greedyAgreement"] == 1
    assert result["parity"]["template"]["rows"] == 20
    evaluation = json.loads((work.artifact / "evaluation.json").read_text())
    assert evaluation["signatures"]["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    lines = [json.loads(line) for line in (work.artifact / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 20
    assert all(line["reference"] == translated(line["prompt"]) for line in lines)
    assert all(line["served"]["fp32"] == line["after"] for line in lines)


def test_the_artifact_says_what_it_translates(marian):
    work, _ = marian
    manifest = json.loads((work.artifact / "manifest.json").read_text())
    assert manifest["task"] == "translation"
    folder = work.artifact / "onnx" / "int8"
    task = {"task": "translation", "maxLength": 64, "sourceLanguage": "de", "targetLanguage": "en", "prefix": ""}
    assert json.loads((folder / "task.json").read_text()) == task
    generation = json.loads((folder / "generation_config.json").read_text())
    pad = json.loads((folder / "config.json").read_text())["pad_token_id"]
    assert generation["suppress_tokens"] == [pad]
    assert {"encoder.onnx", "decoder.onnx", "tokenizer.json"} <= {path.name for path in folder.iterdir()}


def test_an_adapter_learns_what_is_new(marian, tmp_path):
    base = shutil.copytree(marian[0].final, tmp_path / "base")
    training = {**TRAINING, "maxSteps": 60}
    work = translation_job(
        tmp_path / "work",
        Path(base),
        flat_rows(),
        columns={"source": "src", "target": "tgt"},
        method="lora",
        training=training,
        translation={"targetLanguage": "en"},
        export={"precisions": ["fp32"], "parity": {"rows": 4}},
    )
    result = run_job(work)
    before, after = result["metrics"]["before"], result["metrics"]["after"]
    assert after["evalLoss"] < 0.5 * before["evalLoss"]
    assert after["exactMatch"] > before["exactMatch"]
    assert result["parity"]["merge"]["mergedLogitDifference"] < 1e-4
    assert result["metrics"]["served"]["fp32"]["chrf"] == pytest.approx(after["chrf"], abs=1e-4)
    assert (work.artifact / "adapter" / "adapter_model.safetensors").is_file()


def test_two_ranks_under_zero_3_train_t5_as_one_process(tmp_path):
    base = build_translator(tmp_path / "base", "t5")
    logs = {}
    for strategy, processes in (("ddp", 1), ("zero3", 2)):
        work = translation_job(
            tmp_path / strategy,
            base,
            nested_rows(60),
            training={**TRAINING, "maxSteps": 6, "globalBatchSize": 8},
            distributed={"strategy": strategy, "numProcPerNode": processes},
            evaluation={"maxRows": 4, "maxNewTokens": 8},
            export={"precisions": ["fp32"], "parity": {"rows": 2}},
        )
        result = run_job(work, *(() if processes == 2 else (Stage.PREPARE, Stage.TRAIN)))
        logs[strategy] = log_of(work.root)
    for field in ("loss", "evalLoss", "gradNorm"):
        values = [[entry.get(field) for entry in log] for log in logs.values()]
        assert values[0] == pytest.approx(values[1], abs=1e-4), field
    assert result["metrics"]["after"]["evalLoss"] < result["metrics"]["before"]["evalLoss"]
    assert result["parity"]["fp32"]["maxLogitDifference"] < 1e-4
    losses = [entry["loss"] for entry in logs["ddp"] if "loss" in entry]
    assert losses[-1] < losses[0]
