"""JSON as its standard has it: Python's own decoder also takes NaN and Infinity, which servers refuse."""

from __future__ import annotations

import json
from typing import Any


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


DECODER = json.JSONDecoder(parse_constant=_refuse)


def object_of(body: bytes) -> dict[str, Any] | None:
    """Return the object that a body is; None if it is none."""
    try:
        found = DECODER.decode(body.decode())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
