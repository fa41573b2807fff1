"""Lists in pages, by cursor, as OpenAI's clients follow them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tunesmith_hosted.http.errors import ApiError

Row = TypeVar("Row")


def page(rows: Sequence[Row], limit: int, wire: Callable[[Row], dict[str, Any]]) -> dict[str, Any]:
    """Return a page of at most `limit` rows.

    Args:
        rows: The rows after the cursor; one more than `limit` tells that there are more.
        limit: The most rows of a page.
        wire: Makes the object of a row.
    """
    data = [wire(row) for row in rows[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(rows) > limit,
    }


def check_limit(limit: int, most: int) -> int:
    """Return the limit of a page.

    Raises:
        ApiError: It is not between 1 and `most`.
    """
    if not 1 <= limit <= most:
        raise ApiError(400, f"limit must be between 1 and {most}, not {limit}", param="limit", code="invalid_value")
    return limit
