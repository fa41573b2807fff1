"""Settings for speed. Layers are traced as torch.compile does, but no code is made of them, which takes minutes."""

import os

import numpy as np
import peft
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.data.packing import PackCollator
from tunesmith_trainer.models.chunked_loss import compute_loss_in_forward
from tunesmith_trainer.models.packed_attention import use_packed_attention
from tunesmith_trainer.train.compile import compile_layers
from tunesmith_trainer.train.gpu_settings import ALLOCATOR, use_gpu_settings


def test_compiled_layers_compute_the_same() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    model = peft.get_peft_model(LlamaForCausalLM(config), peft.LoraConfig(target_modules=["q_proj", "down_proj"]))
    compute_loss_in_forward(model)
    use_packed_attention(model)
    random = np.random.default_rng(0)
    batches = [
        PackCollator(targets=True).collate(
            [(random.integers(1, 64, n).astype(np.int32), np.ones(n, np.uint8)) for n in lengths]
        )
        for lengths in ([7, 5], [9, 4, 3], [6], [2, 2, 2, 11])
    ]

    def run() -> list[torch.Tensor]:
        results = []
        for batch in batches:
            inputs = {name: value for name, value in batch.items() if name != "labels"}
            model.zero_grad()
            loss = model(**inputs).loss
            loss.backward()
            results += [loss.detach()]
            results += [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
        return results

    expected = run()
    names = [name for name, _ in model.named_parameters()]
    torch._dynamo.reset()
    compile_layers(model, backend="aot_eager")
    found = run()
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0, "something was compiled"
    assert [name for name, _ in model.named_parameters()] == names
    assert len(found) == len(expected) > len(batches)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_without_a_compiler_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(StageError, match="needs a C compiler") as caught:
        compile_layers(None)
    assert caught.value.reason is Reason.INVALID_SPEC


@pytest.mark.parametrize("given", [{}, {"PYTORCH_ALLOC_CONF": "a"}, {"PYTORCH_CUDA_ALLOC_CONF": "b"}])
def test_the_allocators_setting_is_the_users_if_there_is_one(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ALLOCATOR:
        monkeypatch.setenv(name, "")  # so that it is as before when the test ends
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    torch.set_float32_matmul_precision("high")
    use_gpu_settings()
    found = {name: os.environ[name] for name in ALLOCATOR if name in os.environ}
    assert found == (given or {"PYTORCH_ALLOC_CONF": "expandable_segments:True"})
    assert torch.get_float32_matmul_precision() == "highest"
