"""Errors: those for which tests may be skipped, and those for which they may not."""


class CannotRunError(Exception):
    """This machine cannot run such a cluster; the message is one sentence that gives the reason and a remedy."""

    exit_code = 3


class ClusterError(Exception):
    """The cluster should have worked and did not."""

    exit_code = 1
