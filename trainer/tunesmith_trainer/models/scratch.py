"""Creates a small model with random weights, and a byte-pair tokenizer trained on the rows. Deterministic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tunesmith_api.spec import ScratchSpec
from tunesmith_trainer.models.scratch_tokenizer import train_tokenizer
from tunesmith_trainer.runtime.model_libraries import MODELS, importing_models


def build_scratch(folder: Path, spec: ScratchSpec, texts: Iterable[str], seed: int) -> None:
    """Save a new model and its tokenizer in the transformers layout, weights in fp32.

    Args:
        folder: The folder to write to.
        spec: Architecture and sizes.
        texts: The texts that the tokenizer is trained on.
        seed: Seed of the weights.
    """
    with importing_models(MODELS):
        import torch

        from tunesmith_trainer.models.saving import save_model

    tokenizer = train_tokenizer(texts, spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _ARCHITECTURES[spec.architecture](spec, tokenizer)
    # Not save_pretrained: it would import DeepSpeed, which takes seconds and prints to the terminal.
    save_model(model, model.state_dict().items(), folder)
    tokenizer.save_pretrained(folder)


def _decoder(spec: ScratchSpec, tokenizer: Any) -> Any:  # noqa: ANN401
    """Return a causal language model."""
    from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config, Qwen2Config

    options: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_hidden_layers": spec.num_hidden_layers,
        "num_attention_heads": spec.num_attention_heads,
        "num_key_value_heads": spec.num_key_value_heads,
        "max_position_embeddings": spec.max_position_embeddings,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }
    if spec.architecture == "phi3":
        config: Any = Phi3Config(**options, original_max_position_embeddings=spec.max_position_embeddings)
    else:
        config = {"llama": LlamaConfig, "qwen2": Qwen2Config}[spec.architecture](**options)
    model = AutoModelForCausalLM.from_config(config, dtype=_float32())
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def _encoder(spec: ScratchSpec, tokenizer: Any) -> Any:  # noqa: ANN401
    """Return an encoder without a head: each task adds its own."""
    from transformers import AutoModel, BertConfig

    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_hidden_layers=spec.num_hidden_layers,
        num_attention_heads=spec.num_attention_heads,
        max_position_embeddings=spec.max_position_embeddings,
        pad_token_id=tokenizer.pad_token_id,
    )
    return AutoModel.from_config(config, dtype=_float32())


def _encoder_decoder(spec: ScratchSpec, tokenizer: Any) -> Any:  # noqa: ANN401
    """Return an encoder and a decoder. Positions are relative, so the longest sequence is the tokenizer's only."""
    from transformers import AutoModelForSeq2SeqLM, T5Config

    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=spec.hidden_size,
        d_kv=spec.hidden_size // spec.num_attention_heads,
        d_ff=spec.intermediate_size,
        num_layers=spec.num_hidden_layers,
        num_decoder_layers=spec.num_hidden_layers,
        num_heads=spec.num_attention_heads,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    return AutoModelForSeq2SeqLM.from_config(config, dtype=_float32())


def _float32() -> Any:  # noqa: ANN401
    import torch

    return torch.float32


_ARCHITECTURES: Mapping[str, Callable[[ScratchSpec, Any], Any]] = {
    "llama": _decoder,
    "qwen2": _decoder,
    "phi3": _decoder,
    "bert": _encoder,
    "t5": _encoder_decoder,
}
