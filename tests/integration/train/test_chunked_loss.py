"""The loss in chunks is the plain one, with its gradients, and never has all logits."""

from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from support.allocations import Allocations
from tunesmith_trainer.data.targets import IGNORE_INDEX
from tunesmith_trainer.models import chunked_loss
from tunesmith_trainer.models.chunked_loss import can_compute_loss, compute_loss_in_forward, computes_loss
from tunesmith_trainer.models.loss import loss_sum

VOCABULARY = 512


def model_of(kind: str = "llama", *, tied: bool = False, bias: bool = False, adapter: bool = False) -> Any:
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, tie_word_embeddings=tied, initializer_range=0.3, pad_token_id=0,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    if bias:
        model.lm_head.bias = torch.nn.Parameter(torch.randn(VOCABULARY))
    if adapter:
        model = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj", "v_proj", "qkv_proj"]))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter)
    return model


def batch_of(rows: int = 3, length: int = 40, share: float = 0.8) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(1, VOCABULARY, (rows, length), generator=random)
    labels = ids.roll(-1, 1).masked_fill(torch.rand(ids.shape, generator=random) > share, IGNORE_INDEX)
    kept = torch.arange(2, length)
    return {"input_ids": ids, "logits_to_keep": kept, "labels": labels[:, kept]}


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_loss, "LOGITS_WHOLE", 20 * VOCABULARY)
    monkeypatch.setattr(chunked_loss, "LOGITS_CHUNK", 10 * VOCABULARY)


CASES: dict[str, Callable[[], Any]] = {
    "full": model_of,
    "full, tied": lambda: model_of(tied=True),
    "full, biased": lambda: model_of(bias=True),
    "adapter": lambda: model_of(adapter=True),
    "adapter, biased": lambda: model_of(bias=True, adapter=True),
    "soft cap, tied, full": lambda: model_of("gemma2", tied=True),
    "soft cap, tied, adapter": lambda: model_of("gemma2", tied=True, adapter=True),
    **{
        kind: (lambda kind=kind: model_of(kind, adapter=True))
        for kind in ("gemma", "mistral", "phi3", "qwen2", "qwen3")
    },
}


@pytest.mark.parametrize("share", [0.8, 0.2])
@pytest.mark.parametrize("case", CASES)
def test_it_is_the_plain_loss_with_its_gradients(case: str, share: float, small_chunks: None) -> None:
    model, batch = CASES[case](), batch_of(share=share)
    labels = batch.pop("labels")
    plain = loss_sum(model(**batch).logits, labels)
    expected = gradients(model, plain)
    assert can_compute_loss(model)
    assert not computes_loss(model)
    compute_loss_in_forward(model)
    assert computes_loss(model)
    output = model(**batch, targets=labels)
    assert output.logits is None
    torch.testing.assert_close(output.loss, plain, rtol=1e-6, atol=0)
    found = gradients(model, output.loss)
    assert found.keys() == expected.keys()
    assert any(gradient.abs().max() > 1e-3 for gradient in found.values())
    for name, gradient in found.items():
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(gradient, expected[name], atol=1e-6 * max(1.0, scale), rtol=1e-5)
    torch.testing.assert_close(loss_sum(model(**batch).logits, labels), plain, rtol=0, atol=0)


@pytest.mark.parametrize("adapter", [True, False])
def test_not_all_logits_are_there_at_once(adapter: bool, small_chunks: None) -> None:
    model, batch = model_of(adapter=adapter), batch_of(length=100, share=1.0)
    labels = batch.pop("labels")
    compute_loss_in_forward(model)
    largest = {}
    for name in ("whole", "chunked"):
        if name == "whole":
            chunked_loss.LOGITS_WHOLE = 1 << 30
        else:
            chunked_loss.LOGITS_WHOLE = 20 * VOCABULARY
        model.zero_grad()
        with Allocations(keep_log=True) as seen:
            model(**batch, targets=labels).loss.backward()
        largest[name] = max(size for size, _ in seen.log)
    logits = 3 * 98 * VOCABULARY * 4
    assert largest["whole"] == logits
    assert largest["chunked"] <= max(10 * VOCABULARY * 4 * 1.1, VOCABULARY * 32 * 4), "a chunk, or the head's gradient"


def test_an_unknown_model_is_left_alone() -> None:
    assert not can_compute_loss(torch.nn.Linear(2, 2))
