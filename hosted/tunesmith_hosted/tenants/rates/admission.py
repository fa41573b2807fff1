"""What limiting a request finds out, for who answers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that was let in.

    Attributes:
        settle: Corrects the tokens that were taken, by estimate, to those that were used. Not needed: what is not
            corrected stays taken for a minute.
        body: Its body.
        fields: The body's object; None if it is none.
    """

    settle: Callable[[int], None]
    body: bytes
    fields: dict[str, Any] | None


def admission_of(request: Request) -> Admission | None:
    """Return the admission of a request, None where requests are not limited."""
    found: Admission | None = request.scope.get("state", {}).get("admission")
    return found
