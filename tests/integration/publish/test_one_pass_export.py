"""Exports of models that answer in one forward pass compute what torch does, in every family and with any padding."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from support.one_pass import LABELS, SPEC, Answers, Rows, Tokens, rows_of, tuned_model
from support.tiny_tasks import DECODERS, ENCODERS, Family
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import ParitySpec, Precision
from tunesmith_trainer.export.one_pass import graph
from tunesmith_trainer.models.context import usable_positions
from tunesmith_trainer.tasks.base import ValidationSet
from tunesmith_trainer.tasks.one_pass import OnePassTask

TASKS = {"rows": Rows(), "tokens": Tokens(), "answers": Answers()}
CASES = [*((family, "rows") for family in (*ENCODERS, *DECODERS))]
CASES += [(family, name) for family in ENCODERS for name in ("tokens", "answers")]
BOUNDS = ParitySpec(rows=6)


def exported(task: OnePassTask, model: Path, folder: Path, precision: Precision) -> Path:
    with task.exporter(folder / "log", SPEC, {}) as exporter:  # type: ignore[arg-type]
        exporter.export(model, folder / precision.value, precision)
    return folder / precision.value


def numbers_of(task: OnePassTask, model: Path, exports: dict[Precision, Path], folder: Path) -> dict[Precision, Any]:
    store = rows_of(folder / "rows")
    task.record_reference(task.load_model(model), ValidationSet(store, [], None), BOUNDS, folder / "reference")
    return {precision: task.compare(export, folder / "reference", BOUNDS) for precision, export in exports.items()}


@pytest.mark.parametrize(("family", "name"), CASES)
def test_fp32_and_int8_are_the_model(family: Family, name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    model = tuned_model(tmp_path, family, task)
    # What int8 does to a family's graph is the same whatever its head.
    precisions = (Precision.FP32, Precision.INT8) if name == "rows" else (Precision.FP32,)
    exports = {p: exported(task, model, tmp_path, p) for p in precisions}
    for folder in exports.values():
        assert {"model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"} <= {
            p.name for p in folder.iterdir()
        }
        assert json.loads((folder / "task.json").read_text()) == {"task": task.name, "maxLength": 64}
    numbers = numbers_of(task, model, exports, tmp_path)
    for precision, found in numbers.items():
        assert found["rows"] == 24
        task.require_parity(precision, found, BOUNDS)
    assert numbers[Precision.FP32]["maxLogitDifference"] < 2e-5
    assert numbers[Precision.FP32]["maxBatchedLogitDifference"] < 2e-5
    assert numbers[Precision.FP32]["predictionAgreement"] == 1
    if Precision.INT8 in numbers:
        assert numbers[Precision.INT8]["maxLogitDifference"] > 1e-4  # it is quantized
    session = onnxruntime.InferenceSession(exports[Precision.FP32] / "model.onnx")
    types = ["token_type_ids"] if family == "bert" else []
    assert [value.name for value in session.get_inputs()] == ["input_ids", "attention_mask", *types]
    assert all(value.type == "tensor(int64)" and value.shape == ["batch", "sequence"] for value in session.get_inputs())
    assert tuple(value.name for value in session.get_outputs()) == task.output_names


@pytest.mark.parametrize(
    ("kind", "labels"), [("regression", {"id2label": {"0": "score"}}), ("multi_label_classification", LABELS)]
)
def test_numbers_and_several_labels_are_compared_as_such(kind: str, labels: Any, tmp_path: Path) -> None:
    task = TASKS["rows"]
    model = tuned_model(tmp_path, "bert", task, {**labels, "problem_type": kind})
    exports = {p: exported(task, model, tmp_path, p) for p in (Precision.FP32, Precision.INT4)}
    numbers = numbers_of(task, model, exports, tmp_path)
    assert numbers[Precision.FP32]["predictionAgreement"] == 1
    per_row = 1 if kind == "regression" else 3
    assert numbers[Precision.FP32]["predictionAgreementCount"] == (6 + 24) * per_row
    assert numbers[Precision.INT4]["maxLogitDifference"] > 1e-3
    found = {**numbers[Precision.INT4], "predictionAgreement": 0.5}
    with pytest.raises(StageError, match="the int4 export is not the trained model: predictionAgreement is 0.5 of"):
        task.require_parity(Precision.INT4, found, BOUNDS)


@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_a_row_that_ends_with_the_padding_token_is_classified_by_it(family: Family, tmp_path: Path) -> None:
    task = TASKS["rows"]
    folder = tuned_model(tmp_path, family, task)
    model = task.load_model(folder)
    session = onnxruntime.InferenceSession(exported(task, folder, tmp_path, Precision.FP32) / "model.onnx")
    pad = model.config.pad_token_id
    row, other = [9, 17, pad], [8, 7, 6, 5, 4]
    alone = model(**task.inputs([row], model.config)).logits
    shorter = model(**task.inputs([row[:2]], model.config)).logits
    assert not torch.allclose(alone, shorter, atol=1e-2)
    both = task.inputs([row, other], model.config)
    assert torch.allclose(model(**both).logits[:1], alone, atol=1e-5)
    for ids, mask in (([*row, 0, 0], [1, 1, 1, 0, 0]), ([3, 3, *row], [0, 0, 1, 1, 1])):
        given = {"input_ids": np.array([ids, other]), "attention_mask": np.array([mask, [1] * 5])}
        assert np.abs(session.run(None, given)[0][0] - alone.detach().numpy()).max() < 1e-5


def test_an_export_that_is_wrong_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pooling by the last position, whatever the mask says: right for rows alone, wrong for rows that are padded."""
    task = TASKS["rows"]
    model = tuned_model(tmp_path, "llama", task)
    with monkeypatch.context() as patch:
        patch.setattr(graph, "last", lambda hidden, mask: hidden[:, -1])
        wrong = exported(task, model, tmp_path, Precision.FP32)
    numbers = numbers_of(task, model, {Precision.FP32: wrong}, tmp_path)[Precision.FP32]
    assert numbers["maxLogitDifference"] < 1e-5
    with pytest.raises(StageError, match="maxBatchedLogitDifference is") as caught:
        task.require_parity(Precision.FP32, numbers, BOUNDS)
    assert caught.value.reason is Reason.PARITY_FAILED
    numbers = {**numbers, "maxBatchedLogitDifference": None}
    with pytest.raises(StageError, match="maxBatchedLogitDifference is not a number"):
        task.require_parity(Precision.FP32, numbers, BOUNDS)


def test_a_large_model_has_its_weights_in_one_file_beside_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "_LARGE", 0)
    task = TASKS["rows"]
    model = tuned_model(tmp_path, "distilbert", task)
    export = exported(task, model, tmp_path, Precision.FP32)
    assert sorted(path.name for path in export.glob("model*")) == ["model.onnx", "model.onnx.data"]
    numbers = numbers_of(task, model, {Precision.FP32: export}, tmp_path)[Precision.FP32]
    assert numbers["maxLogitDifference"] < 2e-5


def test_what_a_graph_cannot_hold_is_refused_before_training() -> None:
    task = TASKS["rows"]
    task.check_configuration({"is_decoder": False, "rope_parameters": {"rope_type": "default"}}, "m")
    layers = {"full_attention": {"rope_type": "dynamic"}, "sliding_attention": {"rope_type": "default"}}
    for config in ({"rope_parameters": {"rope_type": "dynamic"}}, {"rope_parameters": layers}, {"is_decoder": True}):
        with pytest.raises(StageError, match="it cannot be exported") as caught:
            task.check_configuration(config, "m")
        assert caught.value.reason is Reason.INVALID_MODEL


def test_roberta_has_no_positions_up_to_its_padding_token() -> None:
    assert usable_positions({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}) == 512
    assert usable_positions({"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0}) == 512
    assert usable_positions({"model_type": "t5"}) is None


def test_rows_are_cut_to_what_an_encoder_takes() -> None:
    """The default of maxLength is more than the 512 tokens of most encoders."""
    from tunesmith_api.spec import TrainingJobSpec
    from tunesmith_trainer.models.checks import required_positions

    def job(task: str) -> TrainingJobSpec:
        data = {"sources": [{"uri": "./rows.jsonl"}]}
        return TrainingJobSpec.model_validate({"model": {"uri": "/m"}, "dataset": data, "task": task})

    spec, task = job("tokenClassification"), TASKS["tokens"]
    tokenizer = type("Tokenizer", (), {"model_max_length": 10**30})
    facts = task.settled_facts({}, {"model_type": "bert", "max_position_embeddings": 512}, tokenizer, spec)
    assert task.longest_row(spec, facts) == 512 < spec.training.max_length
    assert required_positions(spec) < 512
    assert required_positions(job("textGeneration")) == spec.training.max_length
