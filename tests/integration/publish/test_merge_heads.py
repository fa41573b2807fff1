"""Adapters with a trained head: every kind merges as peft merges it, and a wrong head is found."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from support.one_pass import SPEC, Answers, Rows, Tokens, rows_of, tuned_model
from support.tiny_tasks import DECODERS, ENCODERS, TRANSLATORS, Family, build_task_model
from tunesmith_api.failures import StageError
from tunesmith_api.spec import AdapterSettings
from tunesmith_trainer.methods.adapter import AdapterWeights
from tunesmith_trainer.methods.kinds.registry import KINDS
from tunesmith_trainer.methods.merge import merge_files
from tunesmith_trainer.methods.merge_check import MergeCheck
from tunesmith_trainer.methods.targets import peft_targets
from tunesmith_trainer.methods.verify import verify_adapter, verify_merge
from tunesmith_trainer.models import memory
from tunesmith_trainer.models.heads import head_modules
from tunesmith_trainer.models.linears import linear_layers
from tunesmith_trainer.models.loading import load_weights, tensor_sources
from tunesmith_trainer.models.weights import WeightFiles
from tunesmith_trainer.tasks.one_pass import OnePassTask

SETTINGS = {name: AdapterSettings(rank=4, alpha=6, block_size=8) for name in KINDS}
TASKS = {"rows": Rows(), "tokens": Tokens(), "answers": Answers()}


def adapted(task: OnePassTask, base: Path, name: str, folder: Path) -> Any:
    """Save a random adapter of a kind with a trained head; return peft's model, in fp32."""
    from peft import get_peft_model

    model = task.load_base(base, "float32")
    heads = head_modules(model)
    modules = [module for module, _ in model.named_modules()]
    targets = peft_targets(None, linear_layers(model, heads), modules, heads)
    config = KINDS[name].peft_config(SETTINGS[name], targets, task.adapter_task_type)
    config.modules_to_save = list(heads)
    found = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(0)
    for parameter in found.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    found.save_pretrained(folder, save_embedding_layers=False)
    return found


def merged(base: Path, adapter: Path, names: dict[str, str], folder: Path) -> WeightFiles:
    folder.mkdir()
    merge_files(base, AdapterWeights(adapter), names, folder)
    return WeightFiles(folder)


@pytest.mark.parametrize("family", ["bert", "qwen2"])
@pytest.mark.parametrize("name", KINDS)
def test_it_equals_pefts_with_the_head(name: str, family: Family, tmp_path: Path) -> None:
    task = TASKS["rows"]
    base = tuned_model(tmp_path, family, task)
    model = task.load_model(base)
    heads = head_modules(model)
    names = tensor_sources(model, base)
    expected = adapted(task, base, name, tmp_path / "adapter")
    adapter = AdapterWeights(tmp_path / "adapter")
    wanted = [tensor for tensor in names if tensor.startswith(tuple(heads))]
    assert adapter.heads == sorted(wanted)
    verify_adapter(tmp_path / "adapter", KINDS[name], SETTINGS[name], list(linear_layers(model, heads)), wanted)
    outputs = partial(task.compared_outputs, store=rows_of(tmp_path / "rows"), rows=4)
    check = MergeCheck(model, adapter, tmp_path / "adapter", outputs)
    assert check.adapted_difference < 1e-4
    found = merged(base, tmp_path / "adapter", names, tmp_path / "merged")
    verify_merge(base, tmp_path / "adapter", tmp_path / "merged", SETTINGS[name], names)
    (tmp_path / "merged" / "config.json").write_bytes((base / "config.json").read_bytes())
    assert check.stored(task.load_model(tmp_path / "merged"), "float32") < 1e-5
    # peft multiplies with all the zeros too, and products are rounded differently from processor to processor.
    right = partial(torch.allclose, atol=1e-6) if name == "oft" else torch.equal
    expected.merge_adapter(safe_merge=True)  # peft cannot unload a head of several layers, with some kinds
    state = {
        name.replace(".base_layer.", ".").replace(".modules_to_save.default.", "."): tensor
        for name, tensor in expected.get_base_model().state_dict().items()
        if ".original_module." not in name
    }
    for tensor in sorted(found.names()):
        assert right(found[tensor], state[tensor]), tensor
    assert not any(torch.equal(found[tensor], WeightFiles(base)[tensor]) for tensor in wanted)


@pytest.mark.parametrize("is_narrow", [False, True])
@pytest.mark.parametrize("family", ["bert", "qwen2"])
def test_a_head_in_16_bits_is_compared_in_fp32(
    family: Family, is_narrow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_narrow:
        monkeypatch.setattr(memory, "_FIXED", 0)
    task = TASKS["rows"]
    base = tuned_model(tmp_path, family, task, dtype="bfloat16")
    adapted(task, base, "lora", tmp_path / "adapter")
    model = task.load_model(base)
    assert (model.dtype is torch.bfloat16) is (is_narrow and family == "qwen2")
    names = tensor_sources(model, base)
    outputs = partial(task.compared_outputs, store=rows_of(tmp_path / "rows"), rows=4)
    assert (
        MergeCheck(model, AdapterWeights(tmp_path / "adapter"), tmp_path / "adapter", outputs).adapted_difference < 1e-4
    )
    found = merged(base, tmp_path / "adapter", names, tmp_path / "merged")
    assert {found.type_name(name) for name in found.names()} == {"bfloat16"}
    verify_merge(base, tmp_path / "adapter", tmp_path / "merged", SETTINGS["lora"], names)


def test_a_wrong_head_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS["rows"]
    base = tuned_model(tmp_path, "bert", task)
    adapted(task, base, "lora", tmp_path / "adapter")
    model = task.load_model(base)
    names, layers, heads = (
        tensor_sources(model, base),
        list(linear_layers(model, head_modules(model))),
        head_modules(model),
    )
    tensors = [tensor for tensor in names if tensor.startswith(tuple(heads))]
    outputs = partial(task.compared_outputs, store=rows_of(tmp_path / "rows"), rows=4)
    adapter, folder = AdapterWeights(tmp_path / "adapter"), tmp_path / "adapter"
    with pytest.raises(StageError, match="the adapter has an unasked trained classifier.bias"):
        verify_adapter(folder, KINDS["lora"], SETTINGS["lora"], layers, tensors[:2])
    merged(base, folder, names, tmp_path / "merged")
    found = load_file(tmp_path / "merged" / "model.safetensors")
    found["classifier.weight"][0, 0] += 1e-6
    save_file(found, tmp_path / "merged" / "model.safetensors")
    with pytest.raises(StageError, match="the merged model's classifier.weight is not the one that was trained"):
        verify_merge(base, folder, tmp_path / "merged", SETTINGS["lora"], names)
    right = AdapterWeights.head
    monkeypatch.setattr(AdapterWeights, "head", lambda self, name: right(self, name) * 1.01)
    with pytest.raises(StageError, match="merging the adapter changes the model"):
        MergeCheck(task.load_model(base), adapter, folder, outputs)
    monkeypatch.undo()
    kept = load_file(folder / "adapter_model.safetensors")
    save_file({k: v for k, v in kept.items() if "classifier" not in k}, folder / "adapter_model.safetensors")
    with pytest.raises(StageError, match="the adapter has no trained classifier.bias"):
        verify_adapter(folder, KINDS["lora"], SETTINGS["lora"], layers, tensors)


@pytest.mark.parametrize(
    ("family", "name"), [*((f, n) for f in ENCODERS for n in TASKS), *((f, "rows") for f in DECODERS)]
)
def test_peft_finds_the_layers_but_no_others(family: Family, name: str, tmp_path: Path) -> None:
    from peft import get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    task = TASKS[name]
    base = build_task_model(tmp_path / "base", family)
    facts = {} if name == "answers" else {"id2label": {"0": "a", "1": "b"}}
    layers = task.linear_layers(base, None, facts)  # type: ignore[arg-type]
    model = task.load_base(task.complete_model(base, tmp_path / "head", facts, SPEC), "float32")
    heads = head_modules(model)
    assert layers == linear_layers(model, heads)
    assert not any("classifier" in layer or "pooler" in layer or "score" in layer for layer in layers)
    per_layer = {"phi3": 4, "modernbert": 4, "llama": 7, "qwen2": 7, "qwen3": 7, "mistral": 7, "gemma": 7}.get(
        family, 6
    )
    assert len(layers) == 2 * per_layer
    for targets in (None, [next(iter(layers)).rsplit(".", 1)[-1]], ["dense"] if "bert" == family else None):
        config = KINDS["lora"].peft_config(
            SETTINGS["lora"], _names(model, layers, heads, targets), task.adapter_task_type
        )
        config.modules_to_save = list(heads)
        found = get_peft_model(
            task.load_base(tmp_path / "head" if (tmp_path / "head").exists() else base, "float32"), config
        )
        adapted = {n for n, m in found.get_base_model().named_modules() if isinstance(m, BaseTunerLayer)}
        chosen = {n for n in layers if targets is None or n.rsplit(".", 1)[-1] == targets[0]}
        assert adapted == chosen


def _names(model: Any, layers: Any, heads: Any, targets: list[str] | None) -> list[str]:
    return peft_targets(targets, layers, [name for name, _ in model.named_modules()], heads)


@pytest.mark.parametrize("family", TRANSLATORS)
def test_layers_of_an_encoder_and_a_decoder(family: Family, tmp_path: Path) -> None:
    """All but the output layer: attention of both, across and to themselves, and feed-forward."""
    import transformers

    base = build_task_model(tmp_path / "base", family)
    model = load_weights(base, model_class=transformers.AutoModelForSeq2SeqLM)
    layers = linear_layers(model)
    wide = 3 if family == "mt5" else 2
    assert len(layers) == 2 * (4 + wide) + 2 * (8 + wide)
    assert not any("lm_head" in name for name in layers)


@pytest.mark.parametrize("head", ["ForMaskedLM", "ForSequenceClassification"])
def test_files_with_the_names_of_years_ago(head: str, tmp_path: Path) -> None:
    """As those of bert-base-uncased on the hub: they are checked, get a head, and are merged, under present names."""
    from tunesmith_trainer.models.weights_check import check_weights, read_architecture

    task = TASKS["rows"]
    base = build_task_model(tmp_path / "base", "bert", head, num_labels=3)
    tensors = load_file(base / "model.safetensors")
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {
        next((n.removesuffix(new) + past for new, past in old.items() if n.endswith(new)), n): t
        for n, t in tensors.items()
    }
    assert renamed.keys() != tensors.keys()
    save_file(renamed, base / "model.safetensors", metadata={"format": "pt"})
    check_weights(base, "m", read_architecture(base, "m", task.stored_class({"architectures": [f"Bert{head}"]})))
    facts = {"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}
    whole = task.complete_model(base, tmp_path / "head", facts, SPEC)  # type: ignore[arg-type]
    model = task.load_model(whole)
    assert torch.equal(model.bert.embeddings.LayerNorm.weight, tensors["bert.embeddings.LayerNorm.weight"])
    adapted(task, whole, "lora", tmp_path / "adapter")
    names = tensor_sources(model, whole)
    found = merged(whole, tmp_path / "adapter", names, tmp_path / "merged")
    verify_merge(whole, tmp_path / "adapter", tmp_path / "merged", SETTINGS["lora"], names)
    assert found.names() == set(model.state_dict())
