"""An export that is written tensor by tensor is the one that the builder writes with the whole model in memory."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from support.tiny_models import build_model
from tunesmith_api.spec import Precision
from tunesmith_trainer.export import int4, streaming
from tunesmith_trainer.export.architectures import EXPORTABLE
from tunesmith_trainer.export.corrections import correct, stage_model
from tunesmith_trainer.export.exporter import OPTIONS
from tunesmith_trainer.export.genai_builder import build
from tunesmith_trainer.export.ragged import write_ragged

Weight = tuple[int, tuple[int, ...], bytes]
Node = tuple[str, dict[str, Any], list[str], list[str]]


@pytest.fixture(scope="module")
def builder() -> Any:
    from onnxruntime_genai.models import builder

    return builder


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny matrices, too, are converted in several slices."""
    monkeypatch.setattr(int4, "SLICE", 1000)
    monkeypatch.setattr(streaming, "SLICE", 1000)


def export(builder: Any, model: Path, folder: Path, precision: str) -> Path:
    folder.mkdir()
    build(builder, str(model), str(folder), precision, list(OPTIONS))
    return folder


def builders_own(builder: Any, model: Path, folder: Path, precision: str) -> Path:
    """Export with the builder as it is, from the same configuration and with the same corrections."""
    folder.mkdir()
    with tempfile.TemporaryDirectory() as staged, tempfile.TemporaryDirectory() as cache:
        corrections = stage_model(model, Path(staged))
        options = builder.parse_extra_options("", staged, str(folder), precision, "cpu", cache, list(OPTIONS))
        builder.create_model("", staged, str(folder), precision, "cpu", cache, **options)
    correct(folder, corrections)
    assert write_ragged(folder)
    return folder


def read(folder: Path) -> tuple[dict[str, Weight], dict[str, Node], onnx.ModelProto]:
    model = onnx.load(folder / "model.onnx")
    weights = {
        weight.name: (weight.data_type, tuple(weight.dims), onnx.numpy_helper.to_array(weight).tobytes())
        for weight in model.graph.initializer
    }
    nodes = {}
    for node in model.graph.node:
        attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        nodes[node.name] = (node.op_type, attributes, list(node.input), list(node.output))
    return weights, nodes, model


def joined(first: Weight, last: Weight) -> Weight:
    return first[0], (first[1][0] + last[1][0], *first[1][1:]), first[2] + last[2]


def merge(weights: dict[str, Weight], nodes: dict[str, Node]) -> None:
    """Merge the gate and up projections of a builder's own int4 export."""
    for name in [name for name in nodes if "/mlp/gate_proj/" in name]:
        gate, up = nodes.pop(name), nodes.pop(name.replace("gate_proj", "up_proj"))
        merged = name.replace("gate_proj", "gate_up_proj")
        inputs = [f"{merged}/input_{index}" for index in range(1, len(gate[2]))]
        for new, first, last in zip(inputs, gate[2][1:], up[2][1:], strict=True):
            weights[new] = joined(weights.pop(first), weights.pop(last))
        output = f"{merged}/output_0"
        nodes[merged] = ("MatMulNBits", {**gate[1], "N": 2 * gate[1]["N"]}, [gate[2][0], *inputs], [output])
        split = {"axis": -1, "num_outputs": 2}
        nodes[f"{merged}/Split"] = ("Split", split, [output], [*gate[3], *up[3]])


def assert_same_export(found: Path, expected: Path, precision: str) -> None:
    weights, nodes, model = read(found)
    own_weights, own_nodes, own_model = read(expected)
    if precision == "int4":
        merge(own_weights, own_nodes)
    assert weights.keys() == own_weights.keys()
    assert [name for name in weights if weights[name] != own_weights[name]] == []
    assert nodes == own_nodes
    for part in ("input", "output"):
        assert getattr(model.graph, part) == getattr(own_model.graph, part)
    assert model.opset_import == own_model.opset_import
    assert (model.ir_version, model.producer_version) == (own_model.ir_version, own_model.producer_version)
    assert json.loads((found / "genai_config.json").read_text()) == json.loads(
        (expected / "genai_config.json").read_text()
    )
    assert sorted(path.name for path in found.iterdir()) == sorted(path.name for path in expected.iterdir())


@pytest.mark.parametrize("precision", ["fp32", "int4"])
@pytest.mark.parametrize("architecture", sorted(EXPORTABLE))
def test_an_export_is_the_builders_own(
    architecture: str, precision: str, builder: Any, model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    model = model_of(architecture)
    found = export(builder, model, tmp_path / "found", precision)
    assert_same_export(found, builders_own(builder, model, tmp_path / "own", precision), precision)


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_tied_weights_and_sizes_that_no_block_divides(precision: str, builder: Any, tmp_path: Path) -> None:
    model = build_model(tmp_path / "model", intermediate_size=140, hidden_size=80, heads=5, kv_heads=1, vocab_size=509,
                        tie_word_embeddings=True)  # fmt: skip
    found = export(builder, model, tmp_path / "found", precision)
    assert_same_export(found, builders_own(builder, model, tmp_path / "own", precision), precision)


@pytest.mark.parametrize("architecture", ["GemmaForCausalLM", "Phi3ForCausalLM"])
def test_weights_in_bf16_give_the_export_of_their_values(
    architecture: str, builder: Any, model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """Gemma adds 1 to the weights of its norms, which in bf16 would lose digits."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(model_of(architecture))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.01)
    for folder, dtype in (("stored", torch.bfloat16), ("wide", torch.float32)):
        model.to(torch.bfloat16).to(dtype).save_pretrained(tmp_path / folder, max_shard_size="100KB")
        AutoTokenizer.from_pretrained(model_of(architecture)).save_pretrained(tmp_path / folder)
    assert len(list((tmp_path / "stored").glob("*.safetensors"))) > 1
    found = export(builder, tmp_path / "stored", tmp_path / "found", "int4")
    assert_same_export(found, builders_own(builder, tmp_path / "wide", tmp_path / "own", "int4"), "int4")


def test_a_weight_that_is_missing_is_named(builder: Any, model_of: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    model = shutil.copytree(model_of("LlamaForCausalLM"), tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, model / "model.safetensors")
    with pytest.raises(ValueError, match="has no weight model.layers.1.mlp.up_proj.weight"):
        export(builder, model, tmp_path / "found", Precision.FP32.value)


def test_data_of_another_size_than_the_tensor_is_refused(tmp_path: Path) -> None:
    from tunesmith_trainer.export.external_data import DataFile

    tensor = onnx.TensorProto(name="weight", data_type=onnx.TensorProto.FLOAT, dims=(2, 3))
    with DataFile(tmp_path / "data") as data, pytest.raises(ValueError, match="weight has 20 bytes; 24 are expected"):
        data.write(tensor, [np.zeros((1, 5), np.float32)])
