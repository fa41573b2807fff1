"""Each row of a pack is computed as it is alone, in every family, with windows, soft caps and ropes of all kinds."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tunesmith_trainer.data.packing import PackCollator
from tunesmith_trainer.models.packed_attention import packing_facts, use_packed_attention

LENGTHS = (37, 1, 12, 25, 2)
SIZES = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.5] * 8,
    "long_factor": [4.0] * 8,
    "original_max_position_embeddings": 64,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma": ("gemma", {}),
    "gemma2: soft caps, every other layer with a window": ("gemma2", {"sliding_window": 8}),
    "llama": ("llama", {}),
    "llama: one key for all heads, biases": ("llama", {"num_key_value_heads": 1, "attention_bias": True}),
    "llama: yarn": ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}}),
    "llama: dynamic": ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}}),
    "mistral: a window": ("mistral", {"sliding_window": 8}),
    "mistral: no window": ("mistral", {"sliding_window": None}),
    "phi3: a window, a part of each head rotated": ("phi3", {"sliding_window": 5, "partial_rotary_factor": 0.5}),
    "phi3: longrope": ("phi3", {"rope_parameters": LONGROPE, "original_max_position_embeddings": 64}),
    "qwen2: windows in some layers": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", {}),
}


def model_of(case: str) -> Any:
    kind, options = CASES[case]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**{**SIZES, **options})).eval()
    if kind == "gemma2":
        assert model.config.attn_logit_softcapping
    return model


@pytest.mark.parametrize("case", CASES)
def test_rows_of_a_pack_are_computed_as_alone(case: str) -> None:
    model = model_of(case)
    random = np.random.default_rng(1)
    rows = [(random.integers(1, 96, length).astype(np.int32), np.ones(length, np.uint8)) for length in LENGTHS]
    alone = [model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).logits[0] for ids, _ in rows]
    pack = PackCollator(lambda tokens: tokens + 9, targets=False).collate(rows)
    del pack["labels"], pack["logits_to_keep"]
    use_packed_attention(model)
    together = model(**pack, use_cache=False).logits[0]
    assert together.abs().max() > 0.5
    start = 0
    for expected in alone:
        torch.testing.assert_close(together[start : start + len(expected)], expected, atol=1e-5, rtol=0)
        start += len(expected)
    moved = model(**{**pack, "cu_seq_lens_q": torch.tensor([0, start + 9])}, use_cache=False).logits[0]
    assert (moved - together).abs().max() > 1e-2, "rows that see each other differ"


@pytest.mark.parametrize("case", CASES)
def test_padded_rows_are_computed_as_before(case: str) -> None:
    """Evaluation during training does not pack."""
    model = model_of(case)
    ids = torch.randint(1, 96, (3, 30), generator=torch.Generator().manual_seed(0))
    expected = model(input_ids=ids, use_cache=False).logits
    use_packed_attention(model)
    torch.testing.assert_close(model(input_ids=ids, use_cache=False).logits, expected, atol=1e-5, rtol=0)


def test_what_stands_against_packing() -> None:
    facts = {case: packing_facts(model_of(case).config.to_dict(), 64) for case in CASES}
    slow = {case for case, fact in facts.items() if fact.slow}
    assert slow == {"gemma2: soft caps, every other layer with a window"}
    assert not [case for case, fact in facts.items() if fact.inexact]
    longrope = packing_facts(model_of("phi3: longrope").config.to_dict(), 65)
    assert longrope.inexact and "64 tokens" in longrope.inexact
    dynamic = model_of("llama: dynamic").config.to_dict()
    assert not packing_facts(dynamic, 128).inexact
    assert packing_facts(dynamic, 129).inexact
