"""Errors for the user; each message is one line that says what is wrong and how to fix it."""


class ServingError(Exception):
    """The server cannot start or continue, for a reason that the user can fix."""


class ArtifactError(ServingError):
    """The artifact is incomplete, damaged, or of a kind that this server cannot serve."""


class MemoryShortageError(ServingError):
    """The model does not fit in memory."""
