"""What can go wrong in a build."""


class BuildError(Exception):
    """An image could not be built, pushed or written; the message says why."""
