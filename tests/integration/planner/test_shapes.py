"""The planner's sizes against the models that transformers builds, on the meta device."""

from typing import Any

import pytest

from tunesmith_api.methods import METHODS, adapter_methods
from tunesmith_api.planner import ModelShape, Setup
from tunesmith_api.spec import adapter_settings

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


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_are_those_of_peft(family: str) -> None:
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    from tunesmith_trainer.methods.registry import method_of
    from tunesmith_trainer.methods.targets import peft_targets
    from tunesmith_trainer.models.linears import linear_layers

    config = AutoConfig.for_model(family, **SIZES, **FAMILIES[family])
    shape = ModelShape.from_config(config.to_dict())
    for name in adapter_methods():
        if METHODS[name].is_quantized:
            continue  # the same adapter, beside other weights
        settings = adapter_settings(name, None)
        assert settings is not None
        model: Any = AutoModelForCausalLM.from_config(config)
        targets = peft_targets(None, linear_layers(model))
        buffers = sum(buffer.numel() for buffer in model.buffers())
        model = get_peft_model(model, method_of(name).kind.peft_config(settings, targets, "CAUSAL_LM"))  # type: ignore[attr-defined]
        trained = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
        setup = Setup(
            method=name,
            precision="fp32",
            strategy="ddp",
            processes=1,
            micro_batch_size=1,
            gradient_accumulation_steps=1,
            length=64,
            gradient_checkpointing=False,
            adapter=settings,
            gpu=False,
        )
        assert setup.trained_parameters(shape) == sum(trained), name
        assert setup.largest_trained(shape) == max(trained), name
        if METHODS[name].adapter_kind == "vera":
            shared = sum(buffer.numel() for buffer in model.base_model.buffers()) - buffers
            assert setup.kind.buffers(shape, settings) == shared
