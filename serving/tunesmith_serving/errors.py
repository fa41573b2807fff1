"""Errors that are meant for people: one line that says what is wrong and what to do."""


class ServingError(Exception):
    """The server cannot start, or cannot go on, for a reason that its user can mend."""


class ArtifactError(ServingError):
    """The artifact is incomplete, damaged or of a form that cannot be served."""


class TemplateError(ServingError):
    """The chat template refused the messages, or there is none."""
