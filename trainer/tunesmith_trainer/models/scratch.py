"""Creates a small model with random weights, and a byte-pair tokenizer trained on the rows. Deterministic."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tunesmith_api.local.imports import importing
from tunesmith_api.spec import ScratchSpec
from tunesmith_trainer.data.chat_templates import CHATML, END, START

PAD = "<|endoftext|>"


def train_tokenizer(texts: Iterable[str], spec: ScratchSpec) -> Any:  # noqa: ANN401 - transformers has no types
    """Return a byte-level BPE tokenizer (transformers, fast) of at most `spec.vocab_size` tokens, with ChatML."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHATML,
        model_max_length=spec.max_position_embeddings,
        clean_up_tokenization_spaces=False,
    )


def build_scratch(folder: Path, spec: ScratchSpec, texts: Iterable[str], seed: int) -> None:
    """Save a new model and its tokenizer in the transformers layout, weights in fp32.

    Args:
        folder: The folder to write to.
        spec: Architecture and sizes.
        texts: The texts that the tokenizer is trained on.
        seed: Seed of the weights.
    """
    with importing():
        import torch
        from safetensors.torch import save_file
        from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config, Qwen2Config

    tokenizer = train_tokenizer(texts, spec)
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    # Not save_pretrained: it would import DeepSpeed, which takes seconds and prints to the terminal.
    config.architectures = [type(model).__name__]
    config.dtype = "float32"
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # the writer makes it private, but stages may run as different users
    tokenizer.save_pretrained(folder)
