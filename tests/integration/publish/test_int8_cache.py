"""Exports that keep keys and values in int8: near the others, rounded by fixed scales, and served."""

import json
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from support.precisions import exported_here
from support.trained_jobs import make_job
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.local.cpus import multiplies_bytes
from tunesmith_api.spec import Precision
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.providers import CPU_PROVIDER, Provider
from tunesmith_serving.engines.registry import load_engine
from tunesmith_serving.engines.text_generation.batching.decoder import OnnxDecoder
from tunesmith_serving.engines.text_generation.batching.graphs import open_graphs
from tunesmith_serving.engines.text_generation.batching.types import GenerationRequest, SamplingParams
from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine
from tunesmith_serving.runtime.config import ServingConfig
from tunesmith_serving.runtime.errors import ArtifactError
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.export import layers
from tunesmith_trainer.export.architectures import EXPORTABLE
from tunesmith_trainer.export.graph import MODEL
from tunesmith_trainer.export.int8_cache import ROOM, measure_ranges, quantise_cache
from tunesmith_trainer.export.onnx_runner import OnnxModel
from tunesmith_trainer.export.ragged import RAGGED
from tunesmith_trainer.publish import publish
from tunesmith_trainer.publish.kv_cache import RANGES, calibration_rows, keep_in_int8
from tunesmith_trainer.stages.inputs import PUBLISH_STEPS
from tunesmith_trainer.stages.runner import run_stage

ModelOf = Callable[[str], Path]
ExportOf = Callable[[str, Precision], Path]
ROW = [int(token) for token in np.random.default_rng(0).integers(3, 500, 48)]


def quantised(exported: Path, folder: Path, rows: list[list[int]]) -> Path:
    """A copy of an export that keeps keys and values in int8."""
    shutil.copytree(exported, folder)
    assert quantise_cache(folder, measure_ranges(folder, rows))
    return folder


@pytest.mark.parametrize("architecture", sorted(EXPORTABLE))
def test_every_family_computes_nearly_the_same(
    architecture: str, export_of: ExportOf, model_of: ModelOf, tmp_path: Path
) -> None:
    exported = export_of(architecture, Precision.INT4)
    folder = quantised(exported, tmp_path / "int4", [ROW])
    plain, rounded = OnnxModel(exported), OnnxModel(folder)
    for name, values in rounded.cache(ROW).items():
        assert values.dtype == np.int8
        exact = plain.cache(ROW)[name]
        scales = np.abs(exact).max(axis=(0, 2), keepdims=True) * ROOM / 127
        if ".0." in name:  # what later layers get is rounded already
            assert np.abs(values * scales - exact).max() <= scales.max() * 0.51, name
    expected, found = plain.decode(ROW[:30], ROW[30:]), rounded.decode(ROW[:30], ROW[30:])
    assert 0 < np.abs(found - expected).max() < 0.2 * np.abs(expected).max()
    # The layers are compared without that rounding, so an error elsewhere is seen as before.
    store = TokenStore.write(tmp_path / "rows", [(ROW, [1] * len(ROW))])
    numbers = layers.check_layers(folder, model_of(architecture), Precision.INT4, store)
    assert float(numbers["largestDifference"]) < 5e-6
    # The branch that computes prompts does not go through the check above: it is compared with the kernel.
    assert 0 < float(numbers["largestPromptDifference"]) < layers.PROMPT_TOLERANCE / 2
    assert "largestPromptDifference" not in layers.check_layers(exported, model_of(architecture), Precision.INT4, store)


@pytest.mark.parametrize("constant", ["inverse", "scales0", "scales1", "positions"])
def test_prompts_that_are_computed_otherwise_are_found(
    constant: str, export_of: ExportOf, model_of: ModelOf, tmp_path: Path
) -> None:
    folder = quantised(export_of("LlamaForCausalLM", Precision.INT4), tmp_path / "int4", [ROW])
    model = onnx.load(folder / MODEL, load_external_data=False)
    layer = [node for node in model.graph.node if node.op_type == "If"][1]
    branch = next(attribute.g for attribute in layer.attribute if attribute.g.name == "prompts")
    if constant == "positions":
        rotation = next(node for node in branch.node if node.op_type == "RotaryEmbedding")
        rotation.attribute.append(onnx.helper.make_attribute("interleaved", 1))
        kept = [each for each in rotation.attribute if not (each.name == "interleaved" and each.i == 0)]
        del rotation.attribute[:]
        rotation.attribute.extend(kept)
    else:
        weight = next(w for w in branch.initializer if w.name.endswith(f"/{constant}/constant"))
        values = numpy_helper.to_array(weight) * np.float32(1.3)
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, str(folder / MODEL))
    store = TokenStore.write(tmp_path / "rows", [(ROW, [1] * len(ROW))])
    with pytest.raises(StageError, match="layer 1 computes prompts otherwise than steps") as caught:
        layers.check_layers(folder, model_of("LlamaForCausalLM"), Precision.INT4, store)
    assert caught.value.reason is Reason.PARITY_FAILED


def test_both_graphs_keep_int8(export_of: ExportOf, tmp_path: Path) -> None:
    folder = quantised(export_of("LlamaForCausalLM", Precision.INT4), tmp_path / "int4", [ROW])
    for name in (MODEL, RAGGED):
        graph = onnx.load(folder / name, load_external_data=False).graph
        cache = [v for v in (*graph.input, *graph.output) if v.name.startswith(("past_key_values.", "present."))]
        assert {value.type.tensor_type.elem_type for value in cache} == {onnx.TensorProto.INT8}, name


@pytest.mark.parametrize("architecture", [*sorted(EXPORTABLE), "Qwen3ForCausalLM/4", "LlamaForCausalLM/4"])
def test_prompts_are_computed_as_steps_are(architecture: str, export_of: ExportOf, tmp_path: Path) -> None:
    """Prompts in fp32 after the rounding are what ONNX Runtime's kernel computes; without a cache with room it does."""
    exported = export_of(architecture, Precision.FP32)
    row = ROW * 2
    ranges = measure_ranges(exported, [row])
    models, rows_of_a_run = [], []
    for name in ("split", "plain"):
        folder = shutil.copytree(exported, tmp_path / name)
        assert quantise_cache(folder, ranges, prompts=name == "split")
        models.append(OnnxModel(folder))
        rows_of_a_run.append(ragged_run(folder))
        for graph in (MODEL, RAGGED):
            nodes = onnx.load(folder / graph, load_external_data=False).graph.node
            assert sum(node.op_type == "If" for node in nodes) == (len(ranges) / 2 if name == "split" else 0)
    split, plain = models
    check_same_rounding(split.logits(row), plain.logits(row))
    found, expected = split.cache(row), plain.cache(row)
    for first, second in ((found, expected), rows_of_a_run):
        for name, values in second.items():
            check_same_rounding(first[name], values)


def check_same_rounding(found: np.ndarray, expected: np.ndarray) -> None:
    """Most differ by rounding in fp32 only; where that lies between two levels, it is the next one."""
    differences = np.abs(found.astype(np.float64) - expected)
    assert np.median(differences) < 1e-5
    assert differences.max() <= (1 if expected.dtype == np.int8 else 0.02)


def ragged_run(folder: Path) -> dict[str, np.ndarray]:
    """What a run gives whose rows have 40, 3 and 33 new tokens after 8, 50 and none: logits, keys and values."""
    session = ort.InferenceSession(folder / RAGGED, providers=["CPUExecutionProvider"])
    sizes = json.loads((folder / "genai_config.json").read_bytes())["model"]["decoder"]
    draw = np.random.default_rng(1)
    new, past, room = np.array([40, 3, 33], np.int32), np.array([8, 50, 0]), 96
    feeds = {
        "input_ids": draw.integers(3, 500, (3, 40)),
        "attention_mask": (np.arange(53) < (new + past)[:, np.newaxis]).astype(np.int64),
        "query_seqlens": new,
        "logits_indices": np.array([[[row, position - 1]] for row, position in enumerate(new)]),
    }
    for value in session.get_inputs():
        if value.name.startswith("past_key_values."):
            feeds[value.name] = draw.integers(-90, 90, (3, value.shape[1], room, sizes["head_size"])).astype(np.int8)
        elif value.name == "position_ids":
            feeds[value.name] = past[:, np.newaxis] + np.arange(40)
    names = [value.name for value in session.get_outputs()]
    found = dict(zip(names, session.run(None, feeds), strict=True))
    kept = np.arange(room) < (new + past)[:, np.newaxis]  # what is behind a row's own is never read
    return {name: v if name == "logits" else v.transpose(0, 2, 1, 3)[kept] for name, v in found.items()}


def test_rows_from_all_over_the_data_are_measured(tmp_path: Path) -> None:
    store = TokenStore.write(tmp_path, [([index] * 10, [1] * 10) for index in range(1000)])
    rows = list(calibration_rows(store))
    assert rows[0][0] == 0
    assert rows[-1][0] > 950
    assert 100 < len(rows) < 200
    long = TokenStore.write(tmp_path / "long", [([1] * 20_000, [1] * 20_000) for _ in range(3)])
    assert sum(map(len, calibration_rows(long))) == 32_768


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published job. Not to be changed."""
    parity = {"rows": 4, "minNextTokenAgreement": 0.3, "maxPerplexityIncrease": 5}
    precisions = [precision.value for precision in exported_here(("int4", "int8"))]
    export = {"precisions": precisions, "kvCache": "int8", "parity": parity}
    work = make_job(tmp_path_factory.mktemp("int8") / "job", export=export)
    run_stage(Stage.PUBLISH, publish, work)
    return work / "artifact"


def scales_of(folder: Path) -> bytes:
    graph = onnx.load(folder / MODEL, load_external_data=False).graph
    scales = [value for value in graph.initializer if value.name.endswith("/scale") and "past_key" in value.name]
    assert len(scales) == 4
    return b"".join(numpy_helper.to_array(value).tobytes() for value in sorted(scales, key=lambda value: value.name))


def test_a_job_publishes_and_checks_what_is_served(artifact: Path) -> None:
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert manifest["parity"]["int4"]["maxLogitDifference"] > 0
    assert manifest["metrics"]["served"]["int4"]
    assert len({scales_of(folder) for folder in (artifact / "onnx").iterdir()}) == 1, "rows are shared by both graphs"
    options: dict[str, object] = {"precision": "int4", "context_length": 128, "max_batch_size": 4}
    config = ServingConfig.model_validate(options | ({"batch_precision": "int8"} if multiplies_bytes() else {}))
    engine = load_engine(open_artifact(artifact, "int4"), config)
    assert isinstance(engine, TextGenerationEngine)
    try:
        decoder = engine.batcher._decoder
        assert decoder.rows.shape.dtype == np.int8
        prompt = tuple(ROW[:40])
        request = GenerationRequest(prompt, SamplingParams(max_tokens=8, temperature=0, ignore_eos=True), None)
        first, second = engine.batcher.generate(request, 60), engine.batcher.generate(request, 60)
        assert second.cached_tokens == 32
        assert first.token_ids == second.token_ids
    finally:
        engine.close()


def test_exports_that_are_made_later_get_the_same_scales(
    artifact: Path, export_of: ExportOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scales are those of the first export, unless it is of another model."""
    assert any(fnmatch(RANGES, pattern) and parts == ("export",) for pattern, parts in PUBLISH_STEPS)
    measured: list[Path] = []
    monkeypatch.setattr(
        "tunesmith_trainer.publish.kv_cache.measure_ranges",
        lambda folder, rows: measured.append(folder) or measure_ranges(folder, rows),
    )
    work = WorkFolder(tmp_path / "job")
    TokenStore.write(work.stage(Stage.PREPARE) / "data" / "train", [(ROW, [1] * len(ROW))])
    work.stage(Stage.PUBLISH).mkdir(parents=True)
    folders = []
    for name, model in (("a", "one"), ("b", "one"), ("c", "two")):
        folders.append(shutil.copytree(export_of("LlamaForCausalLM", Precision.INT4), tmp_path / name))
        keep_in_int8(folders[-1], work, model)
    assert measured == [folders[0], folders[2]]
    assert scales_of(folders[0]) == scales_of(folders[1])


def test_other_providers_are_refused(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if that provider were installed and computed the model.
    monkeypatch.setattr(
        f"{OnnxDecoder.__module__}.open_graphs", lambda *given: open_graphs(*given[:3], provider=CPU_PROVIDER)
    )
    with pytest.raises(ArtifactError, match=r"keeps keys and values in int8.*without export.kvCache"):
        OnnxDecoder(open_artifact(artifact, "int4"), 2, 128, 32, 1, provider=Provider("openvino"))


def test_a_model_without_grouped_queries_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith_trainer.publish.kv_cache.quantise_cache", lambda *_, **__: False)
    work = make_job(tmp_path / "job", export={"precisions": ["int4"], "kvCache": "int8"})
    with pytest.raises(StageError, match=r"grouped queries") as caught:
        run_stage(Stage.PUBLISH, publish, work)
    assert caught.value.reason is Reason.EXPORT_FAILED
