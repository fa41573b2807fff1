"""Layer by layer, an export is the tuned model whatever its weights are; what is not is named by its layer."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from support.precisions import each_precision
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import Precision
from tunesmith_api.tasks import DEFAULT_TASK, TASKS
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.export import export_weights, layer_graphs, layers
from tunesmith_trainer.export.architectures import EXPORTABLE
from tunesmith_trainer.export.exporter import Exporter
from tunesmith_trainer.export.layers import TOLERANCE, check_layers, first_tokens

ModelOf = Callable[[str], Path]
ExportOf = Callable[[str, Precision], Path]
IDS = [int(token) for token in np.random.default_rng(0).integers(3, 500, 48)]
WINDOW = 16


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return store_of(tmp_path_factory.mktemp("rows"), IDS)


def store_of(folder: Path, ids: list[int]) -> TokenStore:
    return TokenStore.write(folder, [(ids, [1] * len(ids))])


@pytest.mark.parametrize("precision", each_precision(TASKS[DEFAULT_TASK].precisions))
@pytest.mark.parametrize("architecture", sorted(EXPORTABLE))
def test_an_export_keeps_every_layer(
    architecture: str,
    precision: Precision,
    model_of: ModelOf,
    export_of: ExportOf,
    rows: TokenStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export_weights, "SLICE", 1000)
    numbers = check_layers(export_of(architecture, precision), model_of(architecture), precision, rows)
    assert (numbers["layers"], numbers["tokens"]) == (2, len(IDS))
    assert 0 < float(numbers["largestDifference"]) < TOLERANCE[precision] / 2
    if precision in (Precision.INT4, Precision.INT8):
        assert 0.9 < float(numbers["largestWeightError"]) <= 1.001
    else:
        assert numbers["largestWeightError"] == 0
    if precision in (Precision.FP32, Precision.INT4, Precision.INT8):
        assert float(numbers["largestDifference"]) < 5e-6


def tensor(model: Any, name: str) -> Any:
    return next(weight for weight in model.graph.initializer if weight.name == name)


def node(model: Any, name: str) -> Any:
    return next(found for found in model.graph.node if found.name.startswith(name))


def scaled(name: str, factor: float) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        weight = tensor(model, name)
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), name))

    return edit


def exchange_layers(model: Any) -> None:
    """Give the first layer's down projection the weights and scales of the second's."""
    first, second = (node(model, f"/model/layers.{layer}/mlp/down_proj/MatMul") for layer in (0, 1))
    first.input[1:] = second.input[1:]


def coarser(model: Any) -> None:
    """Quantise one matrix with twice the steps, rightly rounded."""
    quantised = node(model, "/model/layers.1/attn/o_proj/MatMul")
    packed, scales = (tensor(model, name) for name in quantised.input[1:])
    levels = numpy_helper.to_array(packed)
    low, high = ((level.astype(np.int8) - 8) // 2 + 8 for level in (levels & 15, levels >> 4))
    packed.CopyFrom(numpy_helper.from_array((low | high << 4).astype(np.uint8), packed.name))
    scales.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scales) * np.float32(2), scales.name))


def one_weight(model: Any) -> None:
    weight = tensor(model, "model.layers.0.mlp.up_proj.MatMul.weight")
    values = numpy_helper.to_array(weight).copy()
    values[3, 7] = np.nextafter(values[3, 7], np.float32(9))
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def exchange_gate_and_up(model: Any) -> None:
    split = node(model, "/model/layers.1/mlp/gate_up_proj/MatMul_Q4/Split")
    split.output[:] = reversed(split.output)


def exchange_heads_of_the_cache(model: Any) -> None:
    name = "past_key_values.1.key"
    for found in model.graph.node:
        found.input[:] = ["swapped" if value == name else value for value in found.input]
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 0]), "order"))
    model.graph.node.insert(0, helper.make_node("Gather", [name, "order"], ["swapped"], axis=1))


def no_rotation(model: Any) -> None:
    for name, fill in (("cos_cache", np.ones_like), ("sin_cache", np.zeros_like)):
        weight = tensor(model, name)
        weight.CopyFrom(numpy_helper.from_array(fill(numpy_helper.to_array(weight)), name))


def without_scale_of_embeddings(model: Any) -> None:
    node(model, "/model/embed_tokens/Mul").input[1] = "one"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))


def renamed(model: Any) -> None:
    node(model, "/model/layers.1/input_layernorm/SkipLayerNorm").name = "other"


DAMAGES: dict[str, tuple[str, Precision, Callable[[Any], None], str]] = {
    "scales of a layer": (
        "LlamaForCausalLM",
        Precision.INT4,
        scaled("model.layers.1.mlp.down_proj.MatMul.weight_scales", 1.05),
        r"weight /model/layers\.1/mlp/down_proj/MatMul_Q4 .* it differs by",
    ),
    "NaN": (
        "LlamaForCausalLM",
        Precision.INT4,
        scaled("model.layers.0.mlp.down_proj.MatMul.weight_scales", float("nan")),
        r"weight /model/layers\.0/mlp/down_proj/MatMul_Q4 is not the trained one in",
    ),
    "another layer's weights": (
        "Qwen2ForCausalLM",
        Precision.INT4,
        exchange_layers,
        r"weight /model/layers\.0/mlp/down_proj",
    ),
    "larger steps": (
        "LlamaForCausalLM",
        Precision.INT4,
        coarser,
        r"weight /model/layers\.1/attn/o_proj/MatMul_Q4 is not the trained one in",
    ),
    "embeddings": (
        "LlamaForCausalLM",
        Precision.INT4,
        scaled("model.embed_tokens.weight", 1.01),
        "weight /model/embed_tokens/Gather is not the trained one in",
    ),
    "one bit": (
        "LlamaForCausalLM",
        Precision.FP32,
        one_weight,
        r"weight /model/layers\.0/mlp/up_proj/MatMul is not the trained one in",
    ),
    "gate and up": ("Phi3ForCausalLM", Precision.INT4, exchange_gate_and_up, "layer 1 differs from torch by"),
    "heads of the cache": (
        "MistralForCausalLM",
        Precision.INT4,
        exchange_heads_of_the_cache,
        "layer 1 differs from torch by",
    ),
    "rotation": ("Qwen3ForCausalLM", Precision.FP32, no_rotation, "layer 0 differs from torch by"),
    "a norm": (
        "Gemma2ForCausalLM",
        Precision.INT4,
        scaled("model.layers.1.post_feedforward_layernorm.weight", 1.01),
        "layer 1 differs from torch by",
    ),
    "last norm": (
        "LlamaForCausalLM",
        Precision.INT4,
        scaled("model.layers.2.final_norm_layernorm.weight", 1.01),
        "output layer differs from torch by",
    ),
    "scale of embeddings": (
        "GemmaForCausalLM",
        Precision.INT4,
        without_scale_of_embeddings,
        "embedding differs from torch by",
    ),
    "names": ("LlamaForCausalLM", Precision.FP32, renamed, "has no node '/model/layers.1/input_layernorm"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_export_is_named_by_its_layer(
    damage: str, model_of: ModelOf, export_of: ExportOf, rows: TokenStore, tmp_path: Path
) -> None:
    architecture, precision, edit, says = DAMAGES[damage]
    folder = shutil.copytree(export_of(architecture, precision), tmp_path / "damaged")
    model = onnx.load(folder / "model.onnx")
    edit(model)
    (folder / "model.onnx.data").unlink()
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data")
    with pytest.raises(StageError, match=f"the {precision.value} export is not the trained model: .*{says}") as caught:
        check_layers(folder, model_of(architecture), precision, rows)
    assert caught.value.reason is Reason.PARITY_FAILED


def test_an_export_of_other_weights_is_not_this_models(
    model_of: ModelOf, export_of: ExportOf, rows: TokenStore, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    model = shutil.copytree(model_of("LlamaForCausalLM"), tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * 1.01
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StageError, match="output layer differs"):
        check_layers(export_of("LlamaForCausalLM", Precision.INT4), model, Precision.INT4, rows)


def test_an_export_whose_files_have_other_names_too(
    model_of: ModelOf, export_of: ExportOf, rows: TokenStore, tmp_path: Path
) -> None:
    """An artifact has hard links to the files of the stage."""
    folder = export_of("LlamaForCausalLM", Precision.INT4)
    (tmp_path / "linked").mkdir()
    for path in folder.iterdir():
        (tmp_path / "linked" / path.name).hardlink_to(path)
    check_layers(tmp_path / "linked", model_of("LlamaForCausalLM"), Precision.INT4, rows)


def test_a_row_of_one_token_is_enough(model_of: ModelOf, export_of: ExportOf, tmp_path: Path) -> None:
    numbers = check_layers(
        export_of("LlamaForCausalLM", Precision.FP32),
        model_of("LlamaForCausalLM"),
        Precision.FP32,
        store_of(tmp_path / "rows", [7]),
    )
    assert numbers["tokens"] == 1


def test_the_first_rows_are_joined(tmp_path: Path) -> None:
    store = TokenStore.write(tmp_path / "rows", [([1, 2, 3], [1] * 3), ([4, 5], [1] * 2), ([6], [1])])
    assert first_tokens(store, 4) == [1, 2, 3, 4]
    assert first_tokens(store, 64) == [1, 2, 3, 4, 5, 6]


def windowed(folder: Path, model: Path, window: int | None) -> Path:
    """Give a model a sliding window, or none, in every second layer."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    kinds = ["full_attention", "sliding_attention" if window else "full_attention"]
    config |= {"use_sliding_window": bool(window), "sliding_window": window, "layer_types": kinds}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_window_is_checked_beyond_its_length(
    model_of: ModelOf, exporter: Exporter, rows: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The other tokens stay within the window, as in a large model.
    monkeypatch.setattr(layers, "TOKENS", WINDOW)
    monkeypatch.setattr(layer_graphs, "_CHUNK", 10)
    model = windowed(tmp_path / "model", model_of("Qwen2ForCausalLM"), WINDOW)
    exporter.export(model, tmp_path / "right", Precision.INT4)
    numbers = check_layers(tmp_path / "right", model, Precision.INT4, rows)
    assert (numbers["tokens"], numbers["longRowTokens"]) == (WINDOW, 128)
    assert float(numbers["largestDifference"]) < 1e-5
    without = windowed(tmp_path / "without", model_of("Qwen2ForCausalLM"), None)
    exporter.export(without, tmp_path / "wrong", Precision.INT4)
    with pytest.raises(StageError, match=f"layer 1 on a row beyond token {WINDOW} differs from torch by"):
        check_layers(tmp_path / "wrong", model, Precision.INT4, rows)
