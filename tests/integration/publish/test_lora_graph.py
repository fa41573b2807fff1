"""A LoRA base computes each row of a batch with its own adapter, as peft does."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from support.lora_artifacts import hf_model, make_adapter, make_base, peft_logits
from support.tiny_models import build_model
from tunesmith_api.artifact import onnx_folder
from tunesmith_api.spec import Precision
from tunesmith_trainer.export.exporter import Exporter
from tunesmith_trainer.export.graph import with_all_logits
from tunesmith_trainer.export.lora.graph import add_branches, add_lora_inputs
from tunesmith_trainer.export.lora.inputs import LoraInputs, lora_inputs
from tunesmith_trainer.export.lora.modules import LoraModule, modules_of, read_modules
from tunesmith_trainer.export.onnx_runner import OnnxModel

IDS = [5, 80, 33, 7, 120, 64, 2, 301]
ARCHITECTURES = ("llama", "phi3", "qwen2")
BaseOf = Callable[[str], Path]


def give_biases(model: Path) -> None:
    """Give the biases of q, k and v values: the builder leaves out those that are zero."""
    import torch
    from transformers import AutoModelForCausalLM

    found = AutoModelForCausalLM.from_pretrained(model)
    generator = torch.Generator().manual_seed(5)
    for name, weight in found.named_parameters():
        if name.endswith(".bias"):
            weight.data = torch.randn(weight.shape, generator=generator) * 0.2
    found.save_pretrained(model)


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory, exporter: Exporter) -> BaseOf:
    @lru_cache
    def build(architecture: Any) -> Path:
        folder = tmp_path_factory.mktemp(architecture) / "base"
        give_biases(build_model(hf_model(folder), architecture))
        return make_base(folder, precisions=("fp32", "int4"), exporter=exporter)

    return build


def run(folder: Path, ids: list[list[int]], inputs: LoraInputs) -> Any:
    """Logits [rows, tokens, vocabulary] of a batch."""
    model = with_all_logits(onnx.load(str(folder / "model.onnx"), load_external_data=False))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds: dict[str, Any] = {
        "input_ids": np.asarray(ids, np.int64),
        "attention_mask": np.ones((len(ids), len(ids[0])), np.int64),
        **inputs,
    }
    for value in session.get_inputs():
        if value.name.startswith("past_key_values."):
            feeds[value.name] = np.zeros((len(ids), value.shape[1], 0, 16), np.float32)
    return session.run(["logits"], feeds)[0]


def stacked(rows: list[LoraInputs | None], rank: int) -> LoraInputs:
    """The inputs of several rows; zeros for a row without an adapter."""
    names = {name for row in rows if row for name in row}
    shapes = {name: next(row[name].shape for row in rows if row) for name in names}

    def padded(row: LoraInputs | None, name: str) -> Any:
        axis = 2 if name.endswith(".A") else 1
        shape = list(shapes[name])
        shape[axis] = rank
        values = np.zeros(shape, np.float32)
        if row:
            part = [slice(None)] * 3
            part[axis] = slice(row[name].shape[axis])
            values[tuple(part)] = row[name]
        return values

    return {name: np.concatenate([padded(row, name) for row in rows]) for name in names}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_have_their_own_adapters(architecture: str, base_of: BaseOf, tmp_path: Path) -> None:
    base = base_of(architecture)
    exported = base / onnx_folder("fp32")
    first = make_adapter(tmp_path / "first", base, rank=4, seed=1)
    second = make_adapter(tmp_path / "second", base, rank=2, alpha=3, use_rslora=True, seed=2)
    one, two = (lora_inputs(adapter / "adapter", exported) for adapter in (first, second))
    found = run(exported, [IDS] * 3, stacked([one, None, two], rank=4))
    alone = run(exported, [IDS], {})
    np.testing.assert_array_equal(found[1], alone[0])
    for row, adapter in ((0, first), (1, None), (2, second)):
        wanted = peft_logits(base, adapter, IDS)
        assert np.abs(found[row] - wanted).max() < 2e-5, (architecture, adapter)
    # The adapters do something, and not the same.
    assert min(np.abs(found[a] - found[b]).max() for a, b in ((0, 1), (0, 2), (1, 2))) > 0.1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_int4_base_with_an_adapter_is_as_near_to_torch_as_the_base_alone(
    architecture: str, base_of: BaseOf, tmp_path: Path
) -> None:
    base = base_of(architecture)
    exported = base / onnx_folder("int4")
    adapter = make_adapter(tmp_path / "adapter", base, seed=3)
    inputs = lora_inputs(adapter / "adapter", exported)
    found = run(exported, [IDS] * 2, stacked([inputs, None], rank=4))
    alone = run(exported, [IDS] * 2, {})
    np.testing.assert_array_equal(found[1], alone[1])
    rounding = np.abs(alone[0] - peft_logits(base, None, IDS)).mean()
    with_adapter = np.abs(found[0] - peft_logits(base, adapter, IDS)).mean()
    moved = np.abs(found[0] - alone[0]).mean()
    assert with_adapter < 1.5 * rounding
    assert moved > 0.1


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT4, Precision.FP16])
def test_without_an_adapter_a_base_is_the_export(
    precision: Precision, base_of: BaseOf, exporter: Exporter, tmp_path: Path
) -> None:
    model, folder = hf_model(base_of("llama")), tmp_path / precision.value
    exporter.export(model, folder, precision)
    wanted = OnnxModel(folder).logits(IDS)
    add_lora_inputs(folder, modules_of(model))
    np.testing.assert_array_equal(OnnxModel(folder).logits(IDS), wanted)
    assert len(read_modules(folder)) == 14
    assert read_modules(folder)["1.down_proj"] == (128, 64)


def test_a_module_that_the_graph_does_not_compute_is_refused(base_of: BaseOf) -> None:
    graph = onnx.load(str(base_of("llama") / onnx_folder("fp32") / "model.onnx"), load_external_data=False).graph
    with pytest.raises(ValueError, match="9.o_proj|layers.9"):
        add_branches(graph, [LoraModule(9, "o_proj", 64, 64)])
    with pytest.raises(ValueError, match="0.dense"):
        add_branches(graph, [LoraModule(0, "dense", 64, 64)])
