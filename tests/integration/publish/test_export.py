"""Every architecture that can be exported comes out as the same model, and what does not is caught."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from transformers import AutoTokenizer

from support.precisions import each_precision
from support.trained_jobs import ROWS
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import ParitySpec, Precision
from tunesmith_api.tasks import DEFAULT_TASK, TASKS
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.generate import greedy
from tunesmith_trainer.export import exporter as exporting
from tunesmith_trainer.export.architectures import EXPORTABLE
from tunesmith_trainer.export.bounds import require_parity
from tunesmith_trainer.export.exporter import Exporter
from tunesmith_trainer.export.graph import MODEL
from tunesmith_trainer.export.layers import check_layers
from tunesmith_trainer.export.onnx_runner import OnnxModel
from tunesmith_trainer.export.parity import Numbers, measure
from tunesmith_trainer.export.reference import TorchReference
from tunesmith_trainer.models.loading import load_model

ModelOf = Callable[[str], Path]
ExportOf = Callable[[str, Precision], Path]

# Random weights lose much more to int4 than trained ones do.
WIDE = ParitySpec(min_next_token_agreement=0.2, max_perplexity_increase=5)


def compare(model: Path, onnx_folder: Path, tmp_path: Path) -> Numbers:
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = [tokenizer.encode(question + " " + answer) for question, answer in ROWS[:4]]
    store = TokenStore.write(tmp_path / "rows", [(ids, [0] * 4 + [1] * (len(ids) - 4)) for ids in rows])
    reference = tmp_path / "reference"
    TorchReference.record(load_model(model), store, [ids[:8] for ids in rows], 4, reference)
    return measure(OnnxModel(onnx_folder), TorchReference(reference), tie_tolerance=1e-3)


@pytest.mark.parametrize("precision", each_precision(TASKS[DEFAULT_TASK].precisions))
@pytest.mark.parametrize("architecture", sorted(EXPORTABLE))
def test_an_export_is_the_same_model(
    architecture: str, precision: Precision, model_of: ModelOf, export_of: ExportOf, tmp_path: Path
) -> None:
    model = model_of(architecture)
    folder = export_of(architecture, precision)
    numbers = compare(model, folder, tmp_path)
    require_parity(precision, numbers, WIDE)
    assert numbers["nextTokenAgreementTokens"] == sum(
        len(TokenStore.open(tmp_path / "rows")[i][0]) - 4 for i in range(4)
    )
    if precision is Precision.FP32:
        assert numbers["maxLogitDifference"] < 1e-4
        assert numbers["nextTokenAgreement"] == 1.0
        assert abs(numbers["perplexityIncrease"]) < 1e-4
    elif precision is Precision.INT4:
        assert numbers["maxLogitDifference"] > 1e-2, "int4 that differs in nothing is no int4"
    else:
        assert 1e-4 < numbers["maxLogitDifference"] < {"fp16": 0.05, "bf16": 0.5, "int8": 1.0}[precision.value]
        assert numbers["nextTokenAgreement"] > 0.8
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "genai_config.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert str(model).encode() not in b"".join(path.read_bytes() for path in folder.iterdir())


def test_decoding_by_the_cache_gives_the_tokens_of_torch(model_of: ModelOf, export_of: ExportOf) -> None:
    model = load_model(model_of("LlamaForCausalLM"))
    exported = OnnxModel(export_of("LlamaForCausalLM", Precision.FP32))
    prompt = [5, 80, 33]
    (expected,) = greedy(model, [prompt], [32], frozenset())
    found: list[int] = []
    for _ in range(32):
        found.append(int(exported.decode(prompt, [*found, 0])[-1].argmax()))
    assert found == expected


def perturb(folder: Path, target: Path, kind: str) -> Path:
    """Copy an export and change one of its weights by a tenth of its spread."""
    shutil.copytree(folder, target)
    model = onnx.load(target / "model.onnx")
    for weight in model.graph.initializer:
        array = onnx.numpy_helper.to_array(weight)
        if kind in weight.name and array.dtype == np.float32 and array.ndim == 2:
            noise = np.random.default_rng(0).standard_normal(array.shape).astype(np.float32)
            changed = array * (-1 if "scale" in kind else 1) + noise * array.std() * (0 if "scale" in kind else 0.1)
            weight.CopyFrom(onnx.numpy_helper.from_array(changed.astype(np.float32), weight.name))
            break
    else:
        raise AssertionError(f"no weight {kind}")
    (target / "model.onnx.data").unlink()
    onnx.save(model, target / "model.onnx")
    return target


@pytest.mark.parametrize(
    ("precision", "kind"),
    [(Precision.FP32, "down_proj.MatMul.weight"), (Precision.INT4, "down_proj.MatMul.weight_scale")],
)
def test_a_damaged_weight_is_caught(
    precision: Precision, kind: str, model_of: ModelOf, export_of: ExportOf, tmp_path: Path
) -> None:
    damaged = perturb(export_of("LlamaForCausalLM", precision), tmp_path / "damaged", kind)
    bounds = ParitySpec(min_next_token_agreement=0.35, max_perplexity_increase=1)
    require_parity(
        precision, compare(model_of("LlamaForCausalLM"), export_of("LlamaForCausalLM", precision), tmp_path), bounds
    )
    with pytest.raises(StageError, match=f"the {precision.value} export is not the trained model") as caught:
        require_parity(precision, compare(model_of("LlamaForCausalLM"), damaged, tmp_path), bounds)
    assert caught.value.reason is Reason.PARITY_FAILED


def test_an_adapter_that_the_exporter_merges_wrongly_is_caught(tmp_path: Path) -> None:
    from support.tiny_models import export_onnx
    from support.trained_jobs import make_job
    from tunesmith_trainer.methods.adapter import AdapterWeights
    from tunesmith_trainer.methods.merge import merge_files
    from tunesmith_trainer.models.loading import save_configuration, tensor_sources

    job = make_job(tmp_path / "job", method="dora")
    base, adapter = job / "prepare" / "model", job / "train" / "final"
    wrong = export_onnx(base, tmp_path, "fp32", {"adapter_path": str(adapter)})
    merged = tmp_path / "merged"
    model = load_model(base)
    save_configuration(model, merged)
    merge_files(base, AdapterWeights(adapter), tensor_sources(model, base), merged)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(base / name, merged / name)
    with pytest.raises(StageError, match="maxLogitDifference is"):
        require_parity(Precision.FP32, compare(merged, wrong, tmp_path), ParitySpec())


@pytest.mark.parametrize("size", [64, 128])
def test_blocks_of_int4_weights_can_be_larger(
    size: int, model_of: ModelOf, export_of: ExportOf, tmp_path: Path
) -> None:
    """128 is more than the inputs of some of its layers: their last block is not full."""
    model = model_of("LlamaForCausalLM")
    with Exporter(tmp_path / "export.log", size) as exporter:
        exporter.export(model, tmp_path / "int4", Precision.INT4)
        exporter.export(model, tmp_path / "fp32", Precision.FP32)
    graph = onnx.load(tmp_path / "int4" / MODEL, load_external_data=False).graph
    sizes = {
        a.i for node in graph.node if node.op_type == "MatMulNBits" for a in node.attribute if a.name == "block_size"
    }
    assert sizes == {size}
    require_parity(Precision.INT4, compare(model, tmp_path / "int4", tmp_path), WIDE)
    store = TokenStore.write(tmp_path / "tokens", [(list(range(3, 40)), [1] * 37)])
    numbers = check_layers(tmp_path / "int4", model, Precision.INT4, store)
    assert 0.5 < float(numbers["largestWeightError"]) <= 1.001


def test_a_model_that_the_exporter_chokes_on_fails_in_words(
    exporter: Exporter, model_of: ModelOf, tmp_path: Path
) -> None:
    broken = shutil.copytree(model_of("LlamaForCausalLM"), tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(StageError, match="exporting fp32 failed: ") as caught:
        exporter.export(broken, tmp_path / "out" / "fp32", Precision.FP32)
    assert caught.value.reason is Reason.EXPORT_FAILED
    assert str(exporter.log_file) in caught.value.remedy
    assert not (tmp_path / "out" / "fp32").exists()
    assert "Traceback" in exporter.log_file.read_text()
    # The process is there for the next request.
    exporter.export(model_of("LlamaForCausalLM"), tmp_path / "out" / "fp32", Precision.FP32)
    assert (tmp_path / "out" / "fp32" / "model.onnx").exists()


def test_an_exporter_that_dies_fails_in_words(model_of: ModelOf, tmp_path: Path) -> None:
    with Exporter(tmp_path / "export.log") as exporter:
        exporter._process.kill()
        with pytest.raises(StageError, match="the exporter died with exit code -9"):
            exporter.export(model_of("LlamaForCausalLM"), tmp_path / "fp32", Precision.FP32)
    assert not (tmp_path / "fp32").exists()


def test_int8_is_refused_where_it_could_not_be_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "multiplies_bytes", lambda: False)
    with pytest.raises(StageError, match=r"AVX-512 VNNI") as caught:
        Exporter(tmp_path / "export.log").export(tmp_path, tmp_path / "int8", Precision.INT8)
    assert "stages.publish.nodeSelector" in caught.value.remedy
    assert not (tmp_path / "int8").exists()
