"""What models with an encoder and a decoder have in common: T5, mT5, Marian, M2M100 (NLLB) and mBART."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ARCHITECTURES = (
    "T5ForConditionalGeneration",
    "MT5ForConditionalGeneration",
    "MarianMTModel",
    "M2M100ForConditionalGeneration",
    "MBartForConditionalGeneration",
)
"""The classes of transformers whose exports are checked."""


@dataclass(frozen=True)
class AnswerTokens:
    """The tokens that answers begin and end with.

    Attributes:
        start: The token that the decoder begins with; it is no part of the answer.
        forced: The first token of each answer, such as its language; None if the model chooses it.
        stop: The tokens that end an answer.
        pad: The token that sources are padded with. It is never chosen.
    """

    start: int
    forced: int | None
    stop: tuple[int, ...]
    pad: int

    @property
    def prefix(self) -> list[int]:
        """The tokens that the decoder is given in its first run."""
        return [self.start] if self.forced is None else [self.start, self.forced]

    def settings(self) -> dict[str, Any]:
        """Return them as generation_config.json has them, for greedy answers."""
        return {
            "decoder_start_token_id": self.start,
            **({} if self.forced is None else {"forced_bos_token_id": self.forced}),
            "eos_token_id": list(self.stop) if len(self.stop) > 1 else self.stop[0],
            "pad_token_id": self.pad,
            "suppress_tokens": [self.pad],
            "num_beams": 1,
            "do_sample": False,
        }


def answer_tokens(config: Mapping[str, Any], generation: Mapping[str, Any]) -> AnswerTokens:
    """Return the tokens that a model's answers begin and end with.

    Args:
        config: Its config.json.
        generation: Its generation_config.json, which comes first; empty if it has none.

    Raises:
        ValueError: Neither says which token the decoder begins with, or which ends an answer.
    """

    def value(name: str) -> Any:  # noqa: ANN401
        found = generation.get(name)
        return config.get(name) if found is None else found

    start, stop, pad, forced = (
        value(name) for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id", "forced_bos_token_id")
    )
    if start is None:
        raise ValueError("decoder_start_token_id")
    if stop is None:
        raise ValueError("eos_token_id")
    stops = tuple(int(token) for token in (stop if isinstance(stop, list | tuple) else [stop]))
    return AnswerTokens(int(start), None if forced is None else int(forced), stops, int(start if pad is None else pad))


def answer_tokens_of(model: Any) -> AnswerTokens:  # noqa: ANN401 - a transformers model
    """Return the tokens that a model's answers begin and end with."""
    return answer_tokens(model.config.to_dict(), model.generation_config.to_dict())


def cross_projections(model: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401 - a transformers model
    """Return of each decoder layer the linear layers that make keys and values of the encoder's output."""
    decoder = model.get_decoder()
    if hasattr(decoder, "block"):  # T5 and mT5
        attentions = [block.layer[1].EncDecAttention for block in decoder.block]
        return [(attention.k, attention.v) for attention in attentions]
    return [(layer.encoder_attn.k_proj, layer.encoder_attn.v_proj) for layer in decoder.layers]


def attention_heads(config: Any) -> tuple[int, int]:  # noqa: ANN401 - a transformers configuration
    """Return the number of attention heads in the decoder, and the size of each."""
    if hasattr(config, "d_kv"):  # T5 and mT5
        return int(config.num_heads), int(config.d_kv)
    heads = int(config.decoder_attention_heads)
    return heads, int(config.d_model) // heads


def most_tokens(config: Any) -> int | None:  # noqa: ANN401 - a transformers configuration
    """Return the longest source or target that the model takes, in tokens; None if it has no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    return int(positions) if positions else None
