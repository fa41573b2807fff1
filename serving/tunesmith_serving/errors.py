"""Errors that are meant for people: one line that says what is wrong and what to do."""


class ServingError(Exception):
    """The server cannot start, or cannot go on, for a reason that its user can mend."""


class ArtifactError(ServingError):
    """The artifact is incomplete, damaged or of a form that cannot be served."""


class MemoryShortageError(ServingError):
    """The model does not fit in the memory there is."""


class TemplateError(ServingError):
    """The chat template refused the messages, or there is none."""
