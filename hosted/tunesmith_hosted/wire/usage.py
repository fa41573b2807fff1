"""Objects of the usage API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunesmith_hosted.database.tables import Usage

Keys = dict[str, str | None]
_TOKENS_PRICED = 1e6


def completions_result(rows: Sequence[Usage], keys: Keys) -> dict[str, Any]:
    """Return the sums of questions and answers; what they were grouped by is in `keys`."""
    read, cached = sum(row.input_tokens for row in rows), sum(row.cached_tokens for row in rows)
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": read,
        "input_cached_tokens": cached,
        "input_uncached_tokens": read - cached,
        "output_tokens": sum(row.output_tokens for row in rows),
        "num_model_requests": sum(row.requests for row in rows),
        **keys,
    }


def fine_tuning_result(rows: Sequence[Usage], keys: Keys) -> dict[str, Any]:
    """Return the sums of training."""
    return {
        "object": "organization.usage.fine_tuning.result",
        "trained_tokens": sum(row.trained_tokens for row in rows),
        "gpu_seconds": sum(row.gpu_seconds for row in rows),
        **keys,
    }


def costs_results(rows: Sequence[tuple[Usage, dict[str, float]]], keys: Keys, lines: bool) -> list[dict[str, Any]]:
    """Return what was used, in US dollars.

    Args:
        rows: What was used, each with its price for a million tokens: `input`, `output`, `training`.
        keys: What they were grouped by.
        lines: Return a result for each model and kind of tokens, instead of one for all.
    """
    sums: dict[str | None, float] = {} if lines else {None: 0.0}
    for row, price in rows:
        for kind, tokens in (
            ("input", row.input_tokens),
            ("output", row.output_tokens),
            ("training", row.trained_tokens),
        ):
            if tokens and kind in price:
                line = f"{row.model}, {kind}_tokens" if lines else None
                sums[line] = sums.get(line, 0.0) + tokens * price[kind] / _TOKENS_PRICED
    return [
        {
            "object": "organization.costs.result",
            "amount": {"value": value, "currency": "usd"},
            "line_item": line,
            "project_id": keys["project_id"],
        }
        for line, value in sorted(sums.items(), key=lambda item: item[0] or "")
    ]
