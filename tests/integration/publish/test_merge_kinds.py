"""Every kind of adapter merges as peft merges it, by a formula that is checked apart from it, in every family."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from faults.jobs import FAMILIES, write_base
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import AdapterSettings
from tunesmith_trainer.evaluate.logits import compared_logits
from tunesmith_trainer.methods.adapter import AdapterWeights
from tunesmith_trainer.methods.kinds.registry import KINDS
from tunesmith_trainer.methods.merge import merge_files
from tunesmith_trainer.methods.merge_check import MergeCheck
from tunesmith_trainer.methods.targets import peft_targets
from tunesmith_trainer.methods.verify import verify_adapter, verify_merge
from tunesmith_trainer.models import memory
from tunesmith_trainer.models.linears import linear_layers
from tunesmith_trainer.models.loading import load_model, load_weights, tensor_sources
from tunesmith_trainer.models.weights import WeightFiles

ROWS = [[1, 2, 3, 4, 5, 77, 8], [9] * 30, [100, 4, 9, 250]]
OUTPUTS = partial(compared_logits, rows=ROWS)
SETTINGS = {name: AdapterSettings(rank=4, alpha=6, block_size=16) for name in KINDS}
SETTINGS["lora"] = AdapterSettings(rank=4, alpha=6, use_rslora=True)


def base_of(folder: Path, architecture: str, dtype: str = "float32") -> Path:
    """Save a model of a family, tied as it usually is, with biases that are not zero."""
    base = write_base(folder, architecture, dtype=dtype, tie_word_embeddings=architecture.startswith("Gemma"))
    files = WeightFiles(base)
    tensors = {name: files[name] for name in files.names()}
    for name in tensors:
        if name.endswith(".bias"):
            tensors[name] = torch.randn(tensors[name].shape).to(tensors[name].dtype)
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    return base


def adapted(base: Path, name: str, folder: Path, scale: float = 0.05) -> Any:
    """Save a random adapter of a kind on all layers; return peft's model, in fp32."""
    from peft import get_peft_model

    model = load_weights(base)
    config = KINDS[name].peft_config(SETTINGS[name], peft_targets(None, linear_layers(model)), "CAUSAL_LM")
    found = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(0)
    for parameter in found.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * scale)
    found.save_pretrained(folder, save_embedding_layers=False)
    return found


def merged(base: Path, adapter: Path, folder: Path) -> WeightFiles:
    folder.mkdir()
    merge_files(base, AdapterWeights(adapter), tensor_sources(load_model(base), base), folder)
    return WeightFiles(folder)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_it_equals_pefts(architecture: str, tmp_path: Path) -> None:
    base = base_of(tmp_path / "base", architecture)
    layers = linear_layers(load_weights(base))
    for name, kind in KINDS.items():
        model = adapted(base, name, tmp_path / name)
        verify_adapter(tmp_path / name, kind, SETTINGS[name], list(layers))
        adapter = AdapterWeights(tmp_path / name)
        assert set(adapter.layers) == set(layers)
        found = merged(base, tmp_path / name, tmp_path / f"merged-{name}")
        names = tensor_sources(load_weights(base), base)
        verify_merge(base, tmp_path / name, tmp_path / f"merged-{name}", SETTINGS[name], names)
        expected = model.merge_and_unload(safe_merge=True).state_dict()
        for tensor in sorted(found.names()):
            right = torch.allclose if name == "oft" else torch.equal  # peft multiplies with all the zeros too
            assert right(found[tensor], expected[tensor]), (name, tensor)
            assert name == "ia3" or not tensor.endswith(".bias") or tensor not in adapter.tensors


@pytest.mark.parametrize("is_narrow", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_the_logits_are_those_of_the_adapted_model(
    name: str, is_narrow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_narrow:
        monkeypatch.setattr(memory, "_FIXED", 0)
    base = base_of(tmp_path / "base", "Qwen2ForCausalLM", "bfloat16")
    adapted(base, name, tmp_path / "adapter")
    model = load_model(base)
    assert (model.dtype is torch.bfloat16) is is_narrow
    check = MergeCheck(model, AdapterWeights(tmp_path / "adapter"), tmp_path / "adapter", OUTPUTS)
    assert check.adapted_difference < 1e-4


@pytest.mark.parametrize("name", KINDS)
def test_a_wrong_merge_is_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = base_of(tmp_path / "base", "Qwen2ForCausalLM")
    adapted(base, name, tmp_path / "adapter")
    kind, right = KINDS[name], type(KINDS[name]).merged
    names = tensor_sources(load_model(base), base)
    wrong = {
        "is not": lambda self, file, layer, weight: weight + 1.1 * (right(self, file, layer, weight.clone()) - weight),
        "not merged": lambda self, file, layer, weight: weight,
    }
    for number, merge in enumerate(wrong.values()):
        with monkeypatch.context() as patch:
            patch.setattr(type(kind), "merged", merge)
            merged(base, tmp_path / "adapter", tmp_path / f"merged{number}")
            with pytest.raises(StageError, match=r"are not|not merged") as caught:
                verify_merge(base, tmp_path / "adapter", tmp_path / f"merged{number}", SETTINGS[name], names)
            assert caught.value.reason is Reason.PARITY_FAILED
            with pytest.raises(StageError, match="merging the adapter changes the model"):
                MergeCheck(load_model(base), AdapterWeights(tmp_path / "adapter"), tmp_path / "adapter", OUTPUTS)


def test_a_bias_that_was_not_scaled_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = base_of(tmp_path / "base", "Qwen2ForCausalLM")
    adapted(base, "ia3", tmp_path / "adapter")
    monkeypatch.setattr(type(KINDS["ia3"]), "merged_bias", lambda self, file, layer, bias: bias)
    merged(base, tmp_path / "adapter", tmp_path / "merged")
    names = tensor_sources(load_model(base), base)
    with pytest.raises(StageError, match=r"6 of 20 merged weights are not .*; the first is .*bias"):
        verify_merge(base, tmp_path / "adapter", tmp_path / "merged", SETTINGS["ia3"], names)


@pytest.mark.parametrize("name", KINDS)
def test_an_adapter_that_training_left_as_it_was_is_refused(name: str, tmp_path: Path) -> None:
    base = base_of(tmp_path / "base", "Phi3ForCausalLM")
    adapted(base, name, tmp_path / "adapter", scale=0)
    layers = list(linear_layers(load_weights(base)))
    with pytest.raises(StageError, match="training did not change the adapter of 8 of 8 layers"):
        verify_adapter(tmp_path / "adapter", KINDS[name], SETTINGS[name], layers)


def test_an_adapter_of_other_settings_is_refused(tmp_path: Path) -> None:
    base = base_of(tmp_path / "base", "LlamaForCausalLM")
    layers = list(linear_layers(load_weights(base)))
    for name in ("lora", "vera", "loha", "oft"):
        adapted(base, name, tmp_path / name)
        other = AdapterSettings(rank=8, alpha=6, block_size=32, use_rslora=SETTINGS[name].use_rslora)
        with pytest.raises(StageError, match=r"was saved with (r|oft_block_size) \d+, the job asks for"):
            verify_adapter(tmp_path / name, KINDS[name], other, layers)
    with pytest.raises(StageError, match="was saved with peft_type VERA, the job asks for LORA"):
        verify_adapter(tmp_path / "vera", KINDS["lora"], SETTINGS["lora"], layers)
