"""Models of Phi-3's family of any size, at random weights in bf16, written without ever being in memory as a whole."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

VOCABULARY = 32_064
_HEAD = 96  # values of an attention head, as in Phi-3-mini
_LAYERS = 32
_SHARD = 2 << 30  # bytes
_PART = 16 << 20  # random values at a time: 64 MiB in fp32


@dataclass(frozen=True)
class Shape:
    """The sizes of a model.

    Attributes:
        hidden: Width of the layers.
        layers: Number of layers.
    """

    hidden: int
    layers: int

    @property
    def intermediate(self) -> int:
        """Width inside the layers."""
        return 8 * self.hidden // 3

    @property
    def parameters(self) -> int:
        """All parameters."""
        return sum(rows * columns for _, rows, columns in self.tensors())

    def tensors(self) -> Iterator[tuple[str, int, int]]:
        """Yield the name of each tensor, its rows, and its columns (1 for a vector)."""
        yield "model.embed_tokens.weight", VOCABULARY, self.hidden
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            yield f"{prefix}self_attn.qkv_proj.weight", 3 * self.hidden, self.hidden
            yield f"{prefix}self_attn.o_proj.weight", self.hidden, self.hidden
            yield f"{prefix}mlp.gate_up_proj.weight", 2 * self.intermediate, self.hidden
            yield f"{prefix}mlp.down_proj.weight", self.hidden, self.intermediate
            yield f"{prefix}input_layernorm.weight", self.hidden, 1
            yield f"{prefix}post_attention_layernorm.weight", self.hidden, 1
        yield "model.norm.weight", self.hidden, 1
        yield "lm_head.weight", VOCABULARY, self.hidden


def shape_of(billions: float) -> Shape:
    """Return the shape of about so many billion parameters, with about 32 layers; 3.8 is Phi-3-mini's."""
    shapes = []
    for hidden in range(_HEAD, 96 * _HEAD, _HEAD):
        layers = round((billions * 1e9 - 2 * VOCABULARY * hidden) / (12 * hidden**2))
        if layers > 0:
            shapes.append(Shape(hidden, layers))
    return min(shapes, key=lambda shape: abs(shape.layers - _LAYERS))


def write_model(folder: Path, shape: Shape, texts: list[str]) -> None:
    """Write a model and its tokenizer in the transformers layout.

    Args:
        folder: The folder to make.
        shape: The sizes.
        texts: What the tokenizer is trained on; the vocabulary is filled up to that of Phi-3.
    """
    from transformers import GenerationConfig, Phi3Config

    from support.tiny_models import train_tokenizer

    folder.mkdir(parents=True)
    tokenizer = train_tokenizer(texts, 1024)
    tokenizer.model_max_length = 4096
    special = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = Phi3Config(
        vocab_size=VOCABULARY,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.hidden // _HEAD,
        num_key_value_heads=shape.hidden // _HEAD,
        max_position_embeddings=4096,
        original_max_position_embeddings=4096,
        tie_word_embeddings=False,
        **special,
    )
    config.architectures = ["Phi3ForCausalLM"]
    config.dtype = "bfloat16"
    config.save_pretrained(folder)
    GenerationConfig(**special).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write_weights(folder, shape)


def _write_weights(folder: Path, shape: Shape) -> None:
    shards: list[list[tuple[str, int, int]]] = [[]]
    size = 0
    for tensor in shape.tensors():
        size += 2 * tensor[1] * tensor[2]
        if size > _SHARD and shards[-1]:
            shards.append([])
            size = 2 * tensor[1] * tensor[2]
        shards[-1].append(tensor)
    places = {}
    for index, tensors in enumerate(shards, 1):
        name = f"model-{index:05}-of-{len(shards):05}.safetensors"
        places |= {tensor[0]: name for tensor in tensors}
        with (folder / name).open("wb") as file:
            _write_shard(file, tensors, seed=index)
    total = 2 * shape.parameters
    index_file = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index_file, indent=2))


def _write_shard(file: IO[bytes], tensors: list[tuple[str, int, int]], seed: int) -> None:
    """Write a safetensors file: the length of the header, the header, and the tensors' bytes."""
    import torch

    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, rows, columns in tensors:
        end = start + 2 * rows * columns
        dimensions = [rows] if columns == 1 else [rows, columns]
        header[name] = {"dtype": "BF16", "shape": dimensions, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    generator = torch.Generator().manual_seed(seed)
    for _, rows, columns in tensors:
        for first in range(0, rows * columns, _PART):
            count = min(_PART, rows * columns - first)
            # The weights of a norm are about one.
            values = torch.empty(count).normal_(0, 0.02, generator=generator) + (1 if columns == 1 else 0)
            file.write(values.to(torch.bfloat16).view(torch.uint8).numpy().data)
