"""The error of a build."""


class BuildError(Exception):
    """An image could not be built, pushed or written; the message says why."""
