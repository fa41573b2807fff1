"""The error that backends raise."""

from __future__ import annotations

from enum import StrEnum


class ErrorKind(StrEnum):
    """What a caller can do about an error."""

    INVALID = "invalid"
    """The request is wrong, and nothing was done. It must be corrected."""
    NOT_FOUND = "notFound"
    """There is no such object."""
    FAILED = "failed"
    """The request is valid, but cannot be carried out in the current state."""
    RETRY = "retry"
    """The same request may succeed later."""


class BackendError(Exception):
    """A failed request. The message says what is wrong and what to do about it.

    Attributes:
        kind: What a caller can do about it.
    """

    def __init__(self, message: str, kind: ErrorKind = ErrorKind.INVALID) -> None:
        super().__init__(message)
        self.kind = kind
