"""What is in the way of an import."""

from __future__ import annotations


class ImportFailedError(Exception):
    """Something cannot be imported. The message says where, and what to do."""


class RemoteError(ImportFailedError):
    """The service from which something is imported has refused a request.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
