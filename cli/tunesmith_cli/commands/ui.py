"""`tunesmith ui`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tunesmith_backend.local import children
from tunesmith_cli.commands.hosted import MODULE
from tunesmith_cli.terminal import signals
from tunesmith_cli.terminal.console import CliError, Exit


def run_ui(work: Path, host: str, port: int) -> int:
    """Serve the console over a work folder until Ctrl-C, and return the exit code.

    Args:
        work: Folder of all work.
        host: Address to listen on.
        port: Port to listen on; 0 chooses a free one.

    Raises:
        CliError: The service's dependencies are not installed.
    """
    if importlib.util.find_spec("sqlalchemy") is None:
        raise CliError("the console is not installed; run: pip install 'tunesmith[hosted]'")
    signals.raise_keyboard_interrupt()
    process = children.start(MODULE, ["ui", "--work", str(work), "--host", host, "--port", str(port)])
    try:
        return children.wait(process, lambda: None)
    except KeyboardInterrupt:
        return Exit.OK
