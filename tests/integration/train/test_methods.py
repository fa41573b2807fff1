"""Every method on a tiny Llama: what is written, and that it is what was learned."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from support.training import log_of
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.methods import METHODS
from tunesmith_trainer.data.collate import Collator
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.models.loss import loss_sum, target_count
from tunesmith_trainer.tasks.text_generation import TextGeneration

Run = Callable[[Path], dict[str, Any]]
Job = Callable[..., Path]


def validation_loss(model: Any, work: Path) -> float:
    """Mean loss over the learned tokens, row by row, by transformers' own loss."""
    store = TokenStore.open(work / "prepare" / "data" / "validation")
    total, count = 0.0, 0
    for ids, mask in (store[i] for i in range(len(store))):
        ids_ = torch.tensor(ids[None].astype("int64"))
        labels = torch.where(torch.tensor(mask[None]) > 0, ids_, -100)
        learned = int((labels[:, 1:] != -100).sum())
        if learned:
            with torch.no_grad():
                total += float(model(input_ids=ids_, labels=labels).loss) * learned
            count += learned
    return total / count


@pytest.mark.parametrize("method", list(METHODS))
def test_a_run(method: str, job: Job, run_here: Run) -> None:
    from transformers import AutoModelForCausalLM

    info = METHODS[method]
    adapter = {n: v for n, v in {"rank": 4, "alpha": 16, "dropout": 0.05}.items() if n in info.adapter_settings}
    rate = 50 * info.default_learning_rate if info.trains_adapter else 0.01
    work = job(method=method, adapter=adapter or None, training={"maxSteps": 12, "learningRate": rate}, rows=40)
    marker = run_here(work)
    entries = log_of(work)

    assert [entry["step"] for entry in entries] == list(range(1, 13))
    assert entries[-1]["loss"] < entries[0]["loss"] - 0.05
    assert entries[-1]["epoch"] == 2.4
    assert entries[-1]["tokens"] == marker["tokens"]
    assert all(entry["gradNorm"] > 0 for entry in entries)
    assert marker["steps"] == 12
    assert marker["evalLoss"] == entries[-1]["evalLoss"]
    assert sum("evalLoss" in entry for entry in entries) == 12

    if method == "full":
        assert marker["trainedParameters"] == marker["totalParameters"]
        assert not (work / "train" / "final" / "training_args.bin").exists()
        model = AutoModelForCausalLM.from_pretrained(work / "train" / "final")
        assert model.config.use_cache
    else:
        assert 0 < marker["trainedParameters"] < 0.2 * marker["totalParameters"]
        settings = json.loads((work / "train" / "final" / "adapter_config.json").read_text())
        assert settings["base_model_name_or_path"] == str(work / "prepare" / "model")
        assert settings["target_modules"] == sorted(settings["target_modules"])
        assert settings.get("use_dora", False) is info.is_decomposed
        quantized = info.is_quantized
        assert {p.name for p in (work / "train" / "final").iterdir()} == {
            "adapter_config.json",
            "adapter_model.safetensors",
            *(["quantization.json"] if quantized else []),
        }
        from peft import PeftModel

        load = TextGeneration().load_quantized if quantized else TextGeneration().load_base
        base = load(work / "prepare" / "model", "float32")
        model = PeftModel.from_pretrained(base, work / "train" / "final").eval()
    assert validation_loss(model, work) == pytest.approx(marker["evalLoss"], abs=1e-4)


def test_run_twice_it_does_nothing(job: Job, run_here: Run) -> None:
    work = job(training={"maxSteps": 2})
    first = run_here(work)
    before = {path: path.stat().st_mtime_ns for path in (work / "train").rglob("*")}
    assert run_here(work) == first
    assert {path: path.stat().st_mtime_ns for path in (work / "train").rglob("*")} == before


def test_what_was_chosen_is_told(job: Job, run_here: Run) -> None:
    work = job(training={"maxSteps": 2})
    marker = run_here(work)
    resolved = json.loads((work / "train" / "resolved.json").read_text())
    assert resolved == marker["resolved"]
    assert resolved["learningRate"]["value"] == 0.003
    progress = json.loads((work / "progress.json").read_text())
    assert progress["stage"] == "train"
    assert (progress["step"], progress["totalSteps"]) == (2, 2)
    assert progress["evalLoss"] == round(marker["evalLoss"], 4)
    metrics = json.loads((work / "train" / "metrics.json").read_text())
    assert metrics["seconds"] > 0
    assert metrics["tokensPerSecond"] > 0
    assert metrics["peakMemoryBytes"] > 1e6


def test_wrong_target_modules_name_those_that_exist(job: Job, run_here: Run) -> None:
    work = job(method="lora", adapter={"targetModules": ["q_proj", "qkv"]})
    with pytest.raises(StageError) as caught:
        run_here(work)
    assert caught.value.reason is Reason.INVALID_SPEC
    assert "spec.adapter.targetModules" in caught.value.message
    assert "qkv" in caught.value.message
    assert "q_proj, k_proj" in caught.value.remedy or "down_proj, gate_proj, k_proj" in caught.value.remedy
    assert json.loads((work / "train-outcome.json").read_text())["reason"] == "InvalidSpec"


def test_target_modules_are_taken(job: Job, run_here: Run) -> None:
    from safetensors import safe_open

    work = job(method="lora", adapter={"rank": 2, "targetModules": ["q_proj", "layers.1.mlp.up_proj"]})
    run_here(work)
    with safe_open(work / "train" / "final" / "adapter_model.safetensors", "pt") as file:
        layers = {name.removeprefix("base_model.model.model.layers.").rsplit(".lora", 1)[0] for name in file.keys()}
    assert layers == {"0.self_attn.q_proj", "1.self_attn.q_proj", "1.mlp.up_proj"}


def test_a_loss_that_runs_away_is_told(job: Job, run_here: Run) -> None:
    from safetensors.torch import load_file, save_file

    work = job()
    weights = work / "prepare" / "model" / "model.safetensors"
    state = load_file(weights)
    state["model.norm.weight"][3] = float("inf")
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(StageError) as caught:
        run_here(work)
    assert caught.value.reason is Reason.TRAINING_DIVERGED
    assert "step 1" in caught.value.message
    assert "another base model" in caught.value.remedy, "the learning rate is not the cause before the first step"


@pytest.mark.parametrize(
    "training", [{"precision": "bf16"}, {"gradientCheckpointing": True}, {"scheduler": "constant"}]
)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_options_of_training(training: dict[str, Any], method: str, job: Job, run_here: Run) -> None:
    plain = job("plain", method=method)
    run_here(plain)
    work = job("other", method=method, training=training)
    marker = run_here(work)
    losses, expected = ([entry["loss"] for entry in log_of(w)] for w in (work, plain))
    if "gradientCheckpointing" in training:
        assert losses == pytest.approx(expected, abs=1e-5)  # it only saves memory
    else:
        assert losses == pytest.approx(expected, abs=0.1)
        assert losses != expected
    if "precision" in training:
        assert marker["precision"] == "bf16"


def test_padding_changes_nothing() -> None:
    """Without an attention mask, the loss of padded rows is that of the rows alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from support.training import random_rows

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=128, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    ).eval()
    import numpy as np

    examples = [(np.array(ids, np.int32), np.array(mask, np.uint8)) for ids, mask in random_rows(5)]

    def loss(rows: list[Any], multiple: int, *, prune: bool = True) -> tuple[float, int]:
        batch = Collator(multiple, prune=prune)(rows)
        labels = batch.pop("labels")
        with torch.no_grad():
            logits = model(**batch).logits
        assert logits.shape[:2] == labels.shape
        return float(loss_sum(logits, labels)), int(target_count(labels))

    alone = [loss([row], 1) for row in examples]
    for prune in (True, False):
        together = loss(examples, 8, prune=prune)
        assert together[0] == pytest.approx(sum(value for value, _ in alone), rel=1e-5)
        assert together[1] == sum(count for _, count in alone)


def test_logits_are_asked_for_where_something_is_learned() -> None:
    import numpy as np

    def row(length: int, learned: slice) -> Any:
        mask = np.zeros(length, np.uint8)
        mask[learned] = 1
        return np.arange(10, 10 + length, dtype=np.int32), mask

    batch = Collator()([row(9, slice(7, 9)), row(6, slice(5, 6)), row(4, slice(0, 1))])
    assert batch["logits_to_keep"].tolist() == [4, 6, 7], "one before each learned token; none is before the first one"
    assert batch["labels"].tolist() == [[-100, 17, 18], [15, -100, -100], [-100, -100, -100]]
    nothing = Collator()([row(3, slice(0, 1))])
    assert nothing["logits_to_keep"].tolist() == [0], "a model gives no loss of nothing"
    assert nothing["labels"].tolist() == [[-100]]
