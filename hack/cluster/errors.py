"""What can go wrong, told apart by whether the tests may be left out because of it."""


class CannotRunError(Exception):
    """This machine cannot run such a cluster; the message is one sentence that says why and what would help."""

    exit_code = 3


class ClusterError(Exception):
    """The cluster should have worked and did not."""

    exit_code = 1
