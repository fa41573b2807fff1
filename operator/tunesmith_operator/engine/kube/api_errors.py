"""Errors of the API server, and its absence."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

# As k8s.io/apiserver's `responsewriters.ForbiddenStatusError` words it. Admission, quotas and namespaces that are being
# deleted answer with the same status and reason.
_POLICY = re.compile(r"\bdenied (the )?request\b")
_DENIED = re.compile(r'\bUser "[^"]*" cannot ')


class ApiError(Exception):
    """An answer of the API server other than success.

    Attributes:
        status: The HTTP status.
        reason: The API's reason, such as `AlreadyExists`; empty when the answer was not of the API's form.
        message: The API's own words.
        retry_after: Seconds that the server asks to wait; None when it does not say.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    @classmethod
    def from_answer(cls, status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
        """Return the error of an HTTP answer; the body may have any form."""
        fields: dict[str, Any] = {}
        try:
            parsed = json.loads(body)
        except ValueError:
            parsed = None
        if isinstance(parsed, dict):
            fields = parsed
        details = fields.get("details")
        wait = headers.get("Retry-After") or (details.get("retryAfterSeconds") if isinstance(details, dict) else None)
        text = body[:500].decode(errors="replace").strip()
        return cls(status, str(fields.get("reason") or ""), str(fields.get("message") or text), _seconds(wait))

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed a little later, whatever it asks for."""
        return self.status == 429 or self.status >= 500

    @property
    def is_denied(self) -> bool:
        """Whether the operator lacks the right, in contrast to a quota or an admission policy."""
        return self.status == 403 and bool(_DENIED.search(self.message))

    @property
    def is_denied_by_policy(self) -> bool:
        """Whether an admission webhook or a ValidatingAdmissionPolicy refused it; they answer 400, 403 or 422."""
        return bool(_POLICY.search(self.message))

    @property
    def is_conflict(self) -> bool:
        """Whether the object has changed meanwhile (not: exists already)."""
        return self.status == 409 and self.reason == "Conflict"


class ApiUnreachableError(Exception):
    """The API server did not answer in time, at any attempt."""


def _seconds(value: object) -> float | None:
    """Return a number of seconds; None for any other value (Retry-After may also be a date)."""
    try:
        return max(0.0, float(str(value))) if value is not None else None
    except ValueError:
        return None
