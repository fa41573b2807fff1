"""Errors for the user; each message is one line that says what is wrong and how to fix it."""


class ServingError(Exception):
    """The server cannot start or continue, for a reason that the user can fix."""


class ArtifactError(ServingError):
    """The artifact is incomplete, damaged, or of a kind that this server cannot serve."""


class ProviderError(ServingError):
    """The execution provider is not installed, finds no device, or does not compute the whole model."""


class MemoryShortageError(ServingError):
    """The model does not fit in memory."""
