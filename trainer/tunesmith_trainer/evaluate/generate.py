"""Greedy generation for a batch of prompts; a row leaves the batch as soon as it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

Continue = Callable[[int, list[int]], bool]

_CACHE = 1 << 30  # bytes of the keys and values of one batch


def cached_tokens(config: Any) -> int:  # noqa: ANN401 - a transformers configuration
    """Return how many tokens, of all rows together, may have their keys and values in memory at a time."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return max(1, _CACHE // (2 * 4 * config.num_hidden_layers * heads * size))


@torch.inference_mode()
def greedy(
    model: Any,  # noqa: ANN401 - a transformers model
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    stop: frozenset[int],
    should_continue: Continue | None = None,
    check_every: int = 8,
    on_step: Callable[[], None] = lambda: None,
) -> list[list[int]]:
    """Return the greedy continuation of each prompt, without the stop token.

    Args:
        model: A causal language model with a key-value cache.
        prompts: Token ids of each prompt, at least one each.
        limits: Most new tokens for each prompt.
        stop: Token ids that end a continuation.
        should_continue: Called with a prompt's index and its new tokens; generation of that prompt ends if it returns
            False.
        check_every: New tokens between two calls of `should_continue`.
        on_step: Called after each forward pass, which gives each row that is left one token more.

    Returns:
        New token ids of each prompt.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    rows = [row for row, limit in enumerate(limits) if limit > 0]
    width = max((len(prompts[row]) for row in rows), default=0)
    # Padded on the left, so that the newest token of each row is in the last column.
    step = torch.tensor([[0] * (width - len(prompts[row])) + list(prompts[row]) for row in rows], device=model.device)
    mask = torch.tensor(
        [[0] * (width - len(prompts[row])) + [1] * len(prompts[row]) for row in rows], device=model.device
    )
    cache = None
    while rows:
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -step.shape[1] :]
        output = model(
            input_ids=step,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        chosen = output.logits[:, -1].argmax(-1)
        found = chosen.tolist()
        on_step()
        kept: list[int] = []
        for slot, (row, token) in enumerate(zip(rows, found, strict=True)):
            if token in stop:
                continue
            answer = answers[row]
            answer.append(token)
            if len(answer) >= limits[row]:
                continue
            if should_continue is not None and len(answer) % check_every == 0 and not should_continue(row, answer):
                continue
            kept.append(slot)
        step = chosen.unsqueeze(1)
        if len(kept) < len(rows):
            rows = [rows[slot] for slot in kept]
            if not rows:
                break
            slots = torch.tensor(kept, device=model.device)
            cache.batch_select_indices(slots)
            mask, step = mask[slots], step[slots]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
    return answers
