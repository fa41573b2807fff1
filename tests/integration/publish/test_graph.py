"""What is done to an exported graph changes no number."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from support.precisions import each_precision
from support.tiny_models import export_onnx
from tunesmith_api.spec import Precision
from tunesmith_trainer.export.architectures import EXPORTABLE, export_options
from tunesmith_trainer.export.graph import merge_gate_and_up
from tunesmith_trainer.export.onnx_runner import OnnxModel

ModelOf = Callable[[str], Path]
ExportOf = Callable[[str, Precision], Path]
LAYERS = 2
IDS = [5, 80, 33, 7, 120]


def graph_of(folder: Path) -> onnx.GraphProto:
    return onnx.load(str(folder / "model.onnx"), load_external_data=False).graph


@pytest.mark.parametrize("architecture", sorted(EXPORTABLE))
def test_one_product_a_layer_begins_the_mlp(architecture: str, export_of: ExportOf) -> None:
    graph = graph_of(export_of(architecture, Precision.INT4))
    first = [node.name for node in graph.node if node.op_type == "MatMulNBits" and "/mlp/down" not in node.name]
    in_mlp = [name for name in first if "/mlp/" in name]
    assert len(in_mlp) == LAYERS
    assert all("gate_up_proj" in name for name in in_mlp)


@pytest.mark.parametrize("architecture", ["GemmaForCausalLM", "Qwen2ForCausalLM"])
def test_the_builders_own_export_gives_the_same_logits(
    architecture: str, model_of: ModelOf, export_of: ExportOf, tmp_path: Path
) -> None:
    options = dict(option.split("=") for option in export_options([architecture]))
    own = export_onnx(model_of(architecture), tmp_path, "int4", options)
    folder = export_of(architecture, Precision.INT4)
    whole, pruned = OnnxModel(own), OnnxModel(folder)
    # To the bit on many processors; on others a sum's order depends on how wide the product is.
    np.testing.assert_allclose(pruned.logits(IDS), whole.logits(IDS), rtol=0, atol=1e-5)
    np.testing.assert_allclose(pruned.decode(IDS, [9, 4, 2]), whole.decode(IDS, [9, 4, 2]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", each_precision(Precision))
def test_the_last_tokens_logits_are_the_exports_only_ones(precision: Precision, export_of: ExportOf) -> None:
    folder = export_of("LlamaForCausalLM", precision)
    (logits,) = (output for output in graph_of(folder).output if output.name == "logits")
    assert logits.type.tensor_type.shape.dim[1].dim_value == 1
    model = OnnxModel(folder)
    assert len(model.logits(IDS)) == len(IDS)
    assert np.allclose(model.decode(IDS, [9])[0], model.logits(IDS)[-1], atol=1e-5)


def test_nothing_changes_where_nothing_can_be_merged(export_of: ExportOf) -> None:
    graph = graph_of(export_of("LlamaForCausalLM", Precision.FP32))
    before = graph.SerializeToString()
    assert merge_gate_and_up(graph) == []
    assert graph.SerializeToString() == before
