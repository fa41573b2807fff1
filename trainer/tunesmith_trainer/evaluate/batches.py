"""Length-bucketed batches: rows of similar length share a batch, so that little of it is padding."""

from __future__ import annotations

from collections.abc import Sequence


def length_bucketed_batches(lengths: Sequence[int], max_rows: int, max_tokens: int) -> list[list[int]]:
    """Group rows of similar length.

    Args:
        lengths: Tokens of each row.
        max_rows: Most rows of a batch.
        max_tokens: Most tokens of a batch, padding included. A longer row is a batch of its own.

    Returns:
        Row indices of each batch, longest rows first. Deterministic.
    """
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if not batches or len(batches[-1]) >= max_rows or (len(batches[-1]) + 1) * longest > max_tokens:
            batches.append([])
            longest = max(1, lengths[index])
        batches[-1].append(index)
    return batches
