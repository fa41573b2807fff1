"""The planner's sizes against the models that transformers builds, on the meta device."""

from typing import Any

import pytest

from tunesmith_api.planner import ModelShape

SIZES = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"head_dim": 32},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 32, "attention_bias": True},
    "phi3": {},
    "gemma": {"head_dim": 128},
    "gemma2": {"head_dim": 64},
    "gemma3_text": {"head_dim": 64},
    "granite": {},
    "smollm3": {},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_and_linear_layers_are_those_of_transformers(family: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **SIZES, **FAMILIES[family])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = ModelShape.from_config(config.to_dict())
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    layers = {
        name.rsplit(".", 1)[-1]: (module.in_features, module.out_features, module.bias is not None)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and ".layers.0." in name
    }
    assert layers == {linear.name: (linear.inputs, linear.outputs, linear.bias) for linear in shape.linears}
