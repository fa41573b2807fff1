"""Random configurations of every model family that can be exported, some of them wrong, for property tests."""

from __future__ import annotations

from random import Random
from typing import Any

FAMILIES = ("gemma", "gemma2", "llama", "mistral", "phi3", "qwen2", "qwen3")
ROPES = ("default", "linear", "dynamic", "yarn", "llama3", "longrope", "proportional", "linear", "default")
ACTIVATIONS = ("silu", "silu", "gelu_pytorch_tanh", "gelu", "relu", "gelu_new", "gelu_fast", "swish", "relu2", "tanh")
JUNK = (None, 0, -1, 1.5, "64", [], {}, True, "full_attention", 10**9)
_CLASSES = {
    "gemma": "Gemma",
    "gemma2": "Gemma2",
    "llama": "Llama",
    "mistral": "Mistral",
    "phi3": "Phi3",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
}


def random_config(random: Random, *, broken: float = 0.0) -> dict[str, Any]:
    """Return the content of a config.json of a small model of 512 tokens.

    Args:
        random: Source of all choices.
        broken: Share of configurations in which one field is replaced by something that makes no sense.
    """
    family = random.choice(FAMILIES)
    heads = random.choice((1, 2, 3, 4, 6))
    groups = random.choice([number for number in range(1, heads + 1) if heads % number == 0])
    head = random.choice((16, 16, 32, 32, 48, 64, 24, 20))
    hidden = random.choice((heads * head, random.choice((32, 48, 50, 64, 72))))
    values: dict[str, Any] = {
        "architectures": [f"{_CLASSES[family]}ForCausalLM"],
        "model_type": family,
        "vocab_size": 512,
        "hidden_size": hidden,
        "intermediate_size": random.choice((32, 33, 48, 70, 96)),
        "num_hidden_layers": random.choice((1, 2, 3)),
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "max_position_embeddings": random.choice((64, 96, 128)),
        "tie_word_embeddings": random.random() < 0.4,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    if family != "phi3" and (hidden != heads * head or random.random() < 0.5 or family in ("gemma", "gemma2")):
        values["head_dim"] = head
    values["hidden_activation" if family == "gemma2" else "hidden_act"] = random.choice(ACTIVATIONS)
    values |= _family_fields(family, random)
    share = random.choice((1.0, 1.0, 0.5, 0.75)) if family == "phi3" or random.random() < 0.05 else 1.0
    values["rope_parameters"] = _rope(random, share, int((values.get("head_dim") or hidden // heads) * share))
    if random.random() < 0.2:
        values |= _old_rope(values.pop("rope_parameters"))
    if family == "phi3":
        values["original_max_position_embeddings"] = 48
    if random.random() < broken:
        values[random.choice(sorted(values))] = random.choice(JUNK)
    return values


def _family_fields(family: str, random: Random) -> dict[str, Any]:
    if family == "llama":
        return {"attention_bias": random.random() < 0.3, "mlp_bias": random.random() < 0.3}
    if family in ("mistral", "phi3"):
        return {"sliding_window": random.choice((None, 8, 24, 4096))}
    if family in ("qwen2", "qwen3"):
        return {
            "use_sliding_window": random.random() < 0.5,
            "sliding_window": random.choice((8, 24, 4096)),
            "max_window_layers": random.choice((0, 1, 28)),
        }
    if family == "gemma2":
        return {
            "sliding_window": random.choice((8, 24, 4096)),
            "query_pre_attn_scalar": random.choice((16, 32)),
            "attn_logit_softcapping": random.choice((None, 20.0, 50.0)),
            "final_logit_softcapping": random.choice((None, 30.0)),
        }
    return {}


def _rope(random: Random, share: float, rotary: int) -> dict[str, Any]:
    kind = random.choice(ROPES)
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": random.choice((1e4, 5e5))}
    if share != 1.0:
        rope["partial_rotary_factor"] = share
    if kind != "default":
        rope["factor"] = random.choice((2.0, 4.0))
    if kind in ("yarn", "llama3", "longrope"):
        rope["original_max_position_embeddings"] = random.choice((32, 48))
    if kind == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    if kind == "longrope":
        pairs = rotary // 2 + random.choice((0, 0, 0, 1))
        rope |= {"short_factor": [random.uniform(1, 2) for _ in range(pairs)]}
        rope |= {"long_factor": [random.uniform(2, 4) for _ in range(pairs)]}
    return rope


def _old_rope(rope: dict[str, Any]) -> dict[str, Any]:
    """Return the fields by which transformers 4 wrote position embeddings."""
    rest = {("type" if name == "rope_type" else name): value for name, value in rope.items() if name != "rope_theta"}
    plain = rest["type"] == "default"
    return {"rope_theta": rope["rope_theta"], "rope_scaling": None if plain else rest}
