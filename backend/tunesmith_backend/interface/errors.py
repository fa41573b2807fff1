"""What a backend raises when it cannot do what it was asked."""

from __future__ import annotations

from enum import StrEnum


class ErrorKind(StrEnum):
    """What a caller can do about an error."""

    INVALID = "invalid"
    """The request is wrong, and nothing was done; another request is needed."""
    NOT_FOUND = "notFound"
    """There is no such object."""
    FAILED = "failed"
    """The request was understood, but cannot be carried out as things are."""
    RETRY = "retry"
    """The same request can succeed later."""


class BackendError(Exception):
    """Something is wrong that the message explains, with what to do about it.

    Attributes:
        kind: What a caller can do about it.
    """

    def __init__(self, message: str, kind: ErrorKind = ErrorKind.INVALID) -> None:
        super().__init__(message)
        self.kind = kind
