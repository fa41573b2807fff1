"""Merging from file to file: the same numbers as peft's, in the base model's types, with few tensors in memory."""

import json
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from faults.jobs import FAMILIES, write_base
from support.trained_jobs import make_job
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import AdapterSettings
from tunesmith_api.work_folder import Stage
from tunesmith_trainer.evaluate.logits import compared_logits
from tunesmith_trainer.methods import merge
from tunesmith_trainer.methods.adapter import AdapterWeights
from tunesmith_trainer.methods.kinds import lora
from tunesmith_trainer.methods.kinds.lora import scaling
from tunesmith_trainer.methods.merge import merge_files
from tunesmith_trainer.methods.merge_check import MergeCheck
from tunesmith_trainer.methods.registry import method_of
from tunesmith_trainer.methods.verify import verify_merge
from tunesmith_trainer.models import memory
from tunesmith_trainer.models.loading import load_model, load_weights, tensor_sources
from tunesmith_trainer.models.weights import WeightFiles
from tunesmith_trainer.models.widening import fast_arithmetic
from tunesmith_trainer.publish import publish
from tunesmith_trainer.stages.runner import run_stage

ROWS = [[1, 2, 3, 4, 5, 77, 8], [9] * 30, [100, 4, 9, 250]]
OUTPUTS = partial(compared_logits, rows=ROWS)
ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"o_proj": 2, "layers.1.mlp.down_proj": 6}, "alpha_pattern": {"o_proj": 3}},
}
SPEC = AdapterSettings(rank=4, alpha=8)


def adapt(base: Path, folder: Path, scale: float = 0.05, **options: Any) -> Any:
    """Save a random adapter of a base model; return peft's model, in fp32."""
    from peft import LoraConfig, get_peft_model

    model = load_weights(base, "float32")
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", **options))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator) * scale
            parameter.data = parameter.data * (1 + noise) if "magnitude" in name else parameter.data + noise
    adapted.save_pretrained(folder)
    return adapted


def merged(base: Path, adapter: Path, folder: Path) -> tuple[WeightFiles, dict[str, Any]]:
    folder.mkdir()
    numbers = merge_files(base, AdapterWeights(adapter), tensor_sources(load_model(base), base), folder)
    return WeightFiles(folder), numbers


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("architecture", FAMILIES)
def test_it_equals_pefts_bit_for_bit(architecture: str, kind: str, tmp_path: Path) -> None:
    tied = architecture.startswith("Gemma")
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        base = write_base(tmp_path / name, architecture, dtype=name, tie_word_embeddings=tied)
        adapted = adapt(base, tmp_path / f"adapter-{name}", **ADAPTERS[kind])
        found, numbers = merged(base, tmp_path / f"adapter-{name}", tmp_path / f"merged-{name}")
        expected = adapted.merge_and_unload(safe_merge=True).state_dict()
        assert found.names() == set(expected) - ({"lm_head.weight"} if tied else set())
        for tensor in sorted(found.names()):
            assert torch.equal(found[tensor], expected[tensor].to(dtype)), tensor
        assert numbers["weights"] == name
        assert (numbers["largestRounding"] == 0) is (dtype is torch.float32)
        assert numbers["largestRounding"] <= 2**-8
        assert numbers["updateKept"] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("is_narrow", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_the_logits_are_those_of_the_adapted_model(
    kind: str, dtype: str, is_narrow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_narrow:
        monkeypatch.setattr(memory, "_FIXED", 0)
    base = write_base(tmp_path / "base", dtype=dtype)
    adapt(base, tmp_path / "adapter", **ADAPTERS[kind])
    files, _ = merged(base, tmp_path / "adapter", tmp_path / "merged")
    assert {files.type_name(name) for name in files.names()} == {dtype}
    model = load_model(base)
    assert (str(model.dtype) == f"torch.{dtype}") is (is_narrow or dtype == "float32")
    check = MergeCheck(model, AdapterWeights(tmp_path / "adapter"), tmp_path / "adapter", OUTPUTS)
    assert check.adapted_difference < 1e-4
    (tmp_path / "merged" / "config.json").write_bytes((base / "config.json").read_bytes())
    stored = check.stored(load_model(tmp_path / "merged"), dtype)
    assert stored < 1e-5 if dtype == "float32" else 1e-4 < stored < 0.2
    names = tensor_sources(load_model(base), base)
    verify_merge(base, tmp_path / "adapter", tmp_path / "merged", SPEC, names)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("change", ["scaling", "a layer", "a number", "an untrained tensor", "a type"])
def test_a_wrong_file_is_found(change: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_base(tmp_path / "base", dtype=dtype)
    # As small as an adapter is after few steps: an update is less than one step of bf16 for most weights.
    adapt(base, tmp_path / "adapter", scale=0.01)
    if change == "scaling":
        monkeypatch.setattr(lora, "scaling", lambda file, layer: 1.1 * scaling(file, layer))
    files, _ = merged(base, tmp_path / "adapter", tmp_path / "merged")
    tensors = {name: files[name] for name in files.names()}
    layer = "model.layers.1.mlp.up_proj.weight"
    if change == "a layer":
        tensors[layer] = WeightFiles(base)[layer]
    elif change == "a number":
        tensors[layer][3, 4] += 0.01
    elif change == "an untrained tensor":
        tensors["model.norm.weight"] = tensors["model.norm.weight"] * 1.01
    elif change == "a type":
        tensors[layer] = tensors[layer].to(torch.float16)
    save_file(tensors, tmp_path / "merged" / "model.safetensors")
    names = tensor_sources(load_model(base), base)
    with pytest.raises(StageError) as caught:
        verify_merge(base, tmp_path / "adapter", tmp_path / "merged", SPEC, names)
    assert caught.value.reason is Reason.PARITY_FAILED


def test_a_merge_that_changes_the_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_base(tmp_path / "base")
    adapt(base, tmp_path / "adapter")
    monkeypatch.setattr(AdapterWeights, "merged", lambda self, layer, weight: weight)
    with pytest.raises(StageError, match="merging the adapter changes the model") as caught:
        MergeCheck(load_model(base), AdapterWeights(tmp_path / "adapter"), tmp_path / "adapter", OUTPUTS)
    assert caught.value.reason is Reason.EXPORT_FAILED


def test_an_update_that_the_type_cannot_hold_is_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", dtype="bfloat16")
    adapt(base, tmp_path / "adapter", scale=2e-7)
    with pytest.raises(StageError, match="the base model's weights are bfloat16, and rounding to it leaves") as caught:
        merged(base, tmp_path / "adapter", tmp_path / "merged")
    assert caught.value.reason is Reason.PARITY_FAILED


def test_a_pickled_adapter_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(StageError, match="no adapter_model.safetensors"):
        AdapterWeights(tmp_path)


@pytest.mark.parametrize("sharded", [False, True])
def test_few_tensors_are_in_memory_at_a_time(sharded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_base(tmp_path / "base", dtype="bfloat16", num_hidden_layers=12)
    if sharded:
        load_weights(base, "bfloat16").save_pretrained(base, max_shard_size="60KB")
        (base / "model.safetensors").unlink()
    adapt(base, tmp_path / "adapter")
    alive: list[weakref.ref[torch.Tensor]] = []
    peak = 0
    read: Callable[[WeightFiles, str], torch.Tensor] = WeightFiles.__getitem__

    def watched(self: WeightFiles, name: str) -> torch.Tensor:
        nonlocal peak
        tensor = read(self, name)
        alive.append(weakref.ref(tensor))
        peak = max(peak, sum(value.nbytes for reference in alive if (value := reference()) is not None))
        return tensor

    monkeypatch.setattr(WeightFiles, "__getitem__", watched)
    monkeypatch.setattr(merge, "_SHARD", 100_000)
    files, _ = merged(base, tmp_path / "adapter", tmp_path / "merged")
    largest = 2 * 512 * 64
    assert len(alive) == len(files.names())
    assert peak <= 100_000 + largest < files.bytes / 4
    index = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == files.names()
    assert index["metadata"]["total_size"] == files.bytes
    assert len(set(index["weight_map"].values())) > 3
    verify_merge(
        base,
        tmp_path / "adapter",
        tmp_path / "merged",
        SPEC,
        tensor_sources(load_model(base), base),
    )


@pytest.mark.parametrize("stored", ["model.embed_tokens.weight", "lm_head.weight"])
def test_a_tied_tensor_is_written_once_whatever_it_is_called(stored: str, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", tie_word_embeddings=True)
    tensors = {name: WeightFiles(base)[name] for name in WeightFiles(base).names()}
    tensors[stored] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    adapt(base, tmp_path / "adapter")
    files, _ = merged(base, tmp_path / "adapter", tmp_path / "merged")
    assert "model.embed_tokens.weight" in files.names()
    assert "lm_head.weight" not in files.names()
    assert torch.equal(files["model.embed_tokens.weight"], tensors[stored])


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_large_model_is_published_without_a_copy_in_fp32(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_FIXED", 0)
    monkeypatch.setattr(memory, "_SMALL", 0)
    base = write_base(tmp_path / "base", dtype="bfloat16")
    work = make_job(
        tmp_path / "job",
        method=method,
        base=base,
        export={"precisions": ["fp32"], "parity": {"rows": 2}, "mergeWeights": True},
    )
    run_stage(Stage.PUBLISH, publish, work)
    manifest = json.loads((work / "artifact" / "manifest.json").read_text())
    files = WeightFiles(work / "artifact" / "model")
    assert {files.type_name(name) for name in files.names()} == {"bfloat16"}
    assert json.loads((work / "artifact" / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    fast = str(fast_arithmetic(torch.bfloat16, torch.device("cpu"))).removeprefix("torch.")
    assert manifest["computedIn"] == {"before": fast, "after": fast}
    assert manifest["parity"]["fp32"]["maxLogitDifference"] < 1e-4
    assert manifest["parity"]["merge"]["weights"] == "bfloat16"
    assert manifest["parity"]["merge"]["mergedLogitDifference"] < 1e-4
    assert 0.9 < manifest["parity"]["merge"]["updateKept"] < 1.1
    assert manifest["metrics"]["served"]["fp32"]["evalLoss"] == pytest.approx(
        manifest["metrics"]["after"]["evalLoss"], rel=0.02
    )


def test_the_methods_write_what_they_say(tmp_path: Path) -> None:
    """The whole of `write_tuned`, with a base model in files of its own types."""
    from tunesmith_trainer.methods.base import MergeInputs

    base = write_base(tmp_path / "base", "Qwen2ForCausalLM", dtype="float16")
    adapt(base, tmp_path / "final")
    steps: list[str] = []
    inputs = MergeInputs(SPEC, base, load_model, OUTPUTS, steps.append)
    numbers = method_of("lora").write_tuned(tmp_path / "final", tmp_path / "tuned", inputs)
    assert numbers["weights"] == "float16"
    assert steps == ["checking the adapter", "merging the adapter", "checking the merged weights"]
    assert json.loads((tmp_path / "tuned" / "config.json").read_text())["architectures"] == ["Qwen2ForCausalLM"]
