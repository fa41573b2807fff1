"""A model whose weights come one at a time is saved as transformers saves one that is in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tunesmith_trainer.models.saving as saving
from tunesmith_trainer.models.saving import save_model


def model(architecture: str, *, tied: bool, dtype: torch.dtype) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 96, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": tied, "pad_token_id": 0}
    config = AutoConfig.for_model(architecture, **sizes, **heads)
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(config, dtype=dtype)
    made.config.name_or_path = "base"
    return made


@pytest.mark.parametrize("architecture", ["llama", "phi3", "qwen2", "gemma2", "mistral"])
@pytest.mark.parametrize("tied", [False, True])
def test_all_files_are_the_same(architecture: str, tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = model(architecture, tied=tied, dtype=torch.bfloat16 if tied else torch.float32)
    if not tied:  # in several files, which need an index
        monkeypatch.setattr(saving, "_LARGEST_FILE", "30KB")
    made.save_pretrained(tmp_path / "expected", max_shard_size=saving._LARGEST_FILE)
    save_model(made, made.state_dict().items(), tmp_path / "saved")
    expected = {path.name: path.read_bytes() for path in (tmp_path / "expected").iterdir()}
    assert ("model.safetensors.index.json" in expected) == (not tied)
    assert {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()} == expected


def test_each_weight_is_let_go_of_before_the_next_one(tmp_path: Path) -> None:
    made = model("llama", tied=False, dtype=torch.float32)
    held = 0

    class Value(torch.Tensor):
        def __del__(self) -> None:
            nonlocal held
            held -= 1

    def weights() -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal held
        for name, weight in made.state_dict().items():
            assert held <= 1  # the one before, which the loop that reads them still names
            held += 1
            yield name, weight.clone().as_subclass(Value)

    save_model(made, weights(), tmp_path / "saved")
    assert held <= 1
