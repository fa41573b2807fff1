"""Errors in a data set, with their location."""

from __future__ import annotations

from collections.abc import Iterable

from tunesmith_api.failures import Reason, StageError


def dataset_error(location: str, problem: str, remedy: str) -> StageError:
    """Return the error for a problem at a location.

    Args:
        location: `FILE:LINE`, `FILE: row N` or `FILE`.
        problem: What is wrong, beginning with the field if there is one.
        remedy: What to write instead.
    """
    return StageError(Reason.INVALID_DATASET, f"{location}: {problem}", remedy)


def shown(value: object, limit: int = 60) -> str:
    """Return a value for a message: short, printable, on one line."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def listed(names: Iterable[str]) -> str:
    """Return the names of columns for a message; of many the first."""
    known = list(names)
    return (", ".join(shown(name, 30) for name in known[:8]) or "no columns") + (", ..." if len(known) > 8 else "")
