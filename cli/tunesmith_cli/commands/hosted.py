"""`tunesmith hosted`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from tunesmith_backend.local import children
from tunesmith_cli.terminal import signals
from tunesmith_cli.terminal.console import CliError, Exit

MODULE = "tunesmith_hosted"


def run_hosted(arguments: Sequence[str]) -> int:
    """Run the hosted service, or one of its commands, and return its exit code.

    Raises:
        CliError: Its dependencies are not installed.
    """
    if importlib.util.find_spec("sqlalchemy") is None:
        raise CliError("the hosted service is not installed; run: pip install 'tunesmith[hosted]'")
    signals.raise_keyboard_interrupt()
    process = children.start(MODULE, arguments)
    try:
        return children.wait(process, lambda: None)
    except KeyboardInterrupt:
        return Exit.OK
