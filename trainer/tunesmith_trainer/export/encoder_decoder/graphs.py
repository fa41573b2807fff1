"""Traces the two graphs of a model with an encoder and a decoder; the package's docstring says what they compute."""

from __future__ import annotations

import io
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from tunesmith_trainer.models.encoder_decoder import attention_heads, cross_projections

OPSET = 17
_LOWEST = torch.finfo(torch.float32).min
_BATCH, _SOURCE, _PAST, _TOKENS = 2, 7, 5, 3  # all different, and none is 0 or 1, which tracing would take as fixed


def cache_names(prefix: str, layers: int) -> list[str]:
    """Return the names of all layers' keys and values: `prefix.0.key`, `prefix.0.value`, `prefix.1.key`, ..."""
    return [f"{prefix}.{layer}.{part}" for layer in range(layers) for part in ("key", "value")]


class EncoderGraph(nn.Module):
    """From sources to the keys and values that the decoder's cross-attention reads."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - a transformers model
        super().__init__()
        self.encoder = model.get_encoder()
        self.projections = nn.ModuleList(module for pair in cross_projections(model) for module in pair)
        self.heads, self.size = attention_heads(model.config)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return of each decoder layer the key and the value, float32 [batch, heads, source, head_dim].

        Args:
            input_ids: int64 [batch, source].
            attention_mask: int64 [batch, source], 0 for padding.
        """
        mask = _additive(attention_mask, input_ids.shape[1])
        hidden = self.encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
        batch, source = input_ids.shape
        return tuple(
            project(hidden).view(batch, source, self.heads, self.size).transpose(1, 2) for project in self.projections
        )


class DecoderGraph(nn.Module):
    """From the newest tokens, and what the caches hold of the earlier ones and of the source, to logits."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - a transformers model
        super().__init__()
        self.model = model
        self.layers = len(cross_projections(model))

    def forward(self, input_ids: torch.Tensor, encoder_attention_mask: torch.Tensor, *caches: torch.Tensor) -> Any:  # noqa: ANN401
        """Return the logits, and of each layer the key and the value with those of the new tokens.

        Args:
            input_ids: int64 [batch, tokens].
            encoder_attention_mask: int64 [batch, source], 0 for padding.
            caches: Of each layer the past key and value, then of each layer the encoder's key and value; float32
                [batch, heads, past or source, head_dim].
        """
        half = 2 * self.layers
        cache = EncoderDecoderCache(_filled(caches[:half]), _filled(caches[half:]))
        tokens, past = input_ids.shape[1], caches[0].shape[2]
        output = self.model(
            # Only its presence is looked at, as the cache has the keys and values already.
            encoder_outputs=BaseModelOutput(last_hidden_state=torch.zeros(1, 1, 1)),
            attention_mask=_additive(encoder_attention_mask, tokens),
            decoder_input_ids=input_ids,
            decoder_attention_mask=_causal(tokens, past),
            past_key_values=cache,
            use_cache=True,
        )
        present = cache.self_attention_cache.layers
        return (output.logits, *(part for layer in present for part in (layer.keys, layer.values)))


def _filled(parts: tuple[torch.Tensor, ...]) -> DynamicCache:
    """Return a cache with a key and a value for each layer."""
    cache = DynamicCache()
    for layer in range(len(parts) // 2):
        cache.update(parts[2 * layer][:, :, :0], parts[2 * layer + 1][:, :, :0], layer)
        cache.layers[layer].keys, cache.layers[layer].values = parts[2 * layer : 2 * layer + 2]
    return cache


def _additive(mask: torch.Tensor, tokens: int) -> torch.Tensor:
    """Return what is added to attention scores, float32 [batch, 1, tokens, keys], for a mask int64 [batch, keys]."""
    hidden = (1 - mask[:, None, None, :]).to(torch.float32) * _LOWEST
    return hidden.expand(mask.shape[0], 1, tokens, mask.shape[1])


def _causal(tokens: int, past: int) -> torch.Tensor:
    """Return what is added to attention scores so that tokens see themselves and earlier ones, [1, 1, tokens, keys]."""
    places = torch.arange(tokens)[:, None] + past
    return (torch.arange(tokens + past)[None, :] > places).to(torch.float32)[None, None] * _LOWEST


def write_graphs(model: Any, folder: Path) -> None:  # noqa: ANN401 - a transformers model
    """Write encoder.onnx and decoder.onnx, in fp32.

    Args:
        model: The model in fp32, ready for inference on the CPU.
        folder: An existing folder.
    """
    layers, (heads, size) = len(cross_projections(model)), attention_heads(model.config)
    model.set_attn_implementation("eager")  # it takes masks of any form, and the biases of T5's positions
    ids, mask = torch.ones(_BATCH, _SOURCE, dtype=torch.long), torch.ones(_BATCH, _SOURCE, dtype=torch.long)
    tokens = torch.ones(_BATCH, _TOKENS, dtype=torch.long)
    crossed, past, present = (cache_names(name, layers) for name in ("encoder", "past", "present"))
    source = dict.fromkeys(("input_ids", "attention_mask"), {0: "batch", 1: "source"})
    cached = dict.fromkeys(crossed, {0: "batch", 2: "source"})
    with _quiet(), torch.inference_mode():
        _write(
            EncoderGraph(model),
            (ids, mask),
            folder / "encoder.onnx",
            input_names=["input_ids", "attention_mask"],
            output_names=crossed,
            dynamic_axes={**source, **cached},
        )
        _write(
            DecoderGraph(model),
            (
                tokens,
                mask,
                *(torch.zeros(_BATCH, heads, _PAST, size) for _ in past),
                *(torch.zeros(_BATCH, heads, _SOURCE, size) for _ in crossed),
            ),
            folder / "decoder.onnx",
            input_names=["input_ids", "encoder_attention_mask", *past, *crossed],
            output_names=["logits", *present],
            dynamic_axes={
                "input_ids": {0: "batch", 1: "tokens"},
                "encoder_attention_mask": {0: "batch", 1: "source"},
                **dict.fromkeys(past, {0: "batch", 2: "past"}),
                **cached,
                "logits": {0: "batch", 1: "tokens"},
                **dict.fromkeys(present, {0: "batch", 2: "past_and_tokens"}),
            },
        )


def _write(graph: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path, **names: Any) -> None:  # noqa: ANN401
    """Trace a graph and write it to a file, and its weights to another one if they are too large for the first."""
    parts = path.with_name(f".{path.name}.parts")
    parts.mkdir()
    torch.onnx.export(graph.eval(), inputs, parts / path.name, opset_version=OPSET, dynamo=False, **names)
    join(parts / path.name, path)
    shutil.rmtree(parts)


def join(written: Path, path: Path) -> None:
    """Move a graph; if its weights are in files of their own, one for each, they become one file beside it.

    Args:
        written: The graph, alone in its folder but for its weights.
        path: Where it goes; the weights go to the same name with `.data` appended.
    """
    if len(list(written.parent.iterdir())) == 1:
        written.replace(path)
        return
    import onnx

    onnx.save(
        onnx.load(str(written)),
        str(path),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=f"{path.name}.data",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tracer's remarks from the stage's log: what they warn of, parity checks."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
