"""Attention within each row of a pack, as an attention function of transformers. It needs no mask.

A GPU computes it in bf16 by the FlashAttention kernel that is part of torch. Elsewhere it is computed row by row, which
is as exact and skips the other rows as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import torch
from torch.nn.functional import dropout as drop
from torch.nn.functional import softmax
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

from tunesmith_api.choices.speed import PackingFacts
from tunesmith_trainer.models.loading import without_adapter

NAME = "tunesmith_packed"
"""What transformers knows the function by."""

_LARGEST_HEAD = 256  # of the kernel


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **_: Any,  # noqa: ANN401 - what other attention functions take
) -> tuple[torch.Tensor, None]:
    """Return what each token reads from those before it in its row.

    Args:
        module: The attention layer.
        query: [1, heads, tokens, size], or [rows, heads, tokens, size] without `cu_seq_lens_q`.
        key: The same with as many heads as the keys have.
        value: As `key`.
        attention_mask: None: rows that are not packed are padded on the right, where no token looks.
        scaling: Factor of the scores.
        dropout: Share of the weights that is dropped.
        sliding_window: How many tokens each one sees, itself included; None for all.
        softcap: Bound of the scores; None for none.
        cu_seq_lens_q: int32 [rows + 1], where the rows of a pack begin and the last one ends.
        max_length_q: Tokens of the longest row.

    Returns:
        [1 or rows, tokens, heads, size], and None for the weights.
    """
    if torch.is_autocast_enabled(query.device.type):  # a norm in fp32 may have widened the queries
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    rows = partial(_rows, module, scaling=scaling, dropout=dropout, sliding_window=sliding_window, softcap=softcap)
    if cu_seq_lens_q is None:
        return rows(query, key, value), None
    if softcap is None and not dropout and has_kernel(query):
        return _kernel(query, key, value, cu_seq_lens_q, int(max_length_q or 0), scaling, sliding_window), None
    return _row_by_row(rows, query, key, value, cu_seq_lens_q), None


def has_kernel(query: torch.Tensor) -> bool:
    """Return whether torch's FlashAttention computes with such queries."""
    size = query.shape[-1]
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and size <= _LARGEST_HEAD
        and size % 8 == 0
        and _is_recent(query.device.index)
    )


@lru_cache
def _is_recent(device: int | None) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)


def _kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    longest: int,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    """Return the result for all rows of a pack at once, [1, tokens, heads, size]."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    # The kernel counts the tokens to the left, without the token itself.
    window = (-1, 0) if sliding_window is None else (sliding_window - 1, 0)
    result = varlen_attn(
        query, key, value, ends, ends, longest, longest, scale=scaling, window_size=window, enable_gqa=True
    )
    assert isinstance(result, torch.Tensor)  # noqa: S101 - a tuple only where more is asked for
    return result[None]


@torch.compiler.disable  # it would be compiled anew for each number of rows
def _row_by_row(
    rows: Callable[..., torch.Tensor],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
) -> torch.Tensor:
    """Return the result for each row of a pack after the other, [1, tokens, heads, size]."""
    bounds = ends.tolist()
    parts = [
        rows(*(tensor[:, :, start:end] for tensor in (query, key, value)))
        for start, end in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    return torch.cat(parts, dim=1)


def _rows(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scaling: float | None,
    dropout: float,
    sliding_window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """Return the result for rows of the same length, [rows, tokens, heads, size]."""
    length = query.shape[2]
    seen: torch.Tensor | None = None  # None for all tokens up to the own one
    if sliding_window is not None and length > sliding_window:
        seen = torch.ones(length, length, dtype=torch.bool, device=query.device).tril().triu(1 - sliding_window)
    if softcap is not None:
        return _capped(module, query, key, value, seen, scaling, dropout, softcap)
    mask = None if seen is None else seen[None, None]
    result, _ = sdpa_attention_forward(module, query, key, value, mask, dropout, scaling, is_causal=mask is None)
    return result


def _capped(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    seen: torch.Tensor | None,
    scaling: float | None,
    dropout: float,
    softcap: float,
) -> torch.Tensor:
    """Return the result with a bound on the scores, step by step: no kernel has it."""
    if seen is None:
        seen = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool, device=query.device).tril()
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
    weights = softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = drop(weights, dropout, module.training)
    return (weights @ value).transpose(1, 2).contiguous()


AttentionInterface.register(NAME, packed_attention)


def use_packed_attention(model: Any) -> None:  # noqa: ANN401 - a transformers model
    """Let a model, with or without an adapter, attend by `packed_attention`."""
    base = without_adapter(model)
    base.set_attn_implementation(NAME)


def packing_facts(config: Mapping[str, Any], longest: int) -> PackingFacts:
    """Return what stands against packing the rows of a model.

    Args:
        config: Its configuration as transformers writes it (`config.to_dict()`).
        longest: Tokens of the longest row.
    """
    rope = config.get("rope_parameters") or {}
    kind = str(rope.get("rope_type"))
    positions = int(config.get("max_position_embeddings") or 0)
    original = {"longrope": int(rope.get("original_max_position_embeddings") or positions), "dynamic": positions}
    if longest > original.get(kind, longest):
        return PackingFacts(
            inexact=f"the model's rope ({kind}) depends on the longest row beside it, for rows of more than "
            f"{original[kind]} tokens"
        )
    if config.get("attn_logit_softcapping") is not None:
        return PackingFacts(slow="the model's attention has a soft cap, which the kernel for packed rows has not")
    return PackingFacts()
