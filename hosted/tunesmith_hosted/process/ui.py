"""Serves the console over the work folders of one machine, until it is asked to stop."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import uvicorn

from tunesmith_hosted.console.work_folder.app import LOOPBACK, create_folder_app

_DRAIN_SECONDS = 2


async def serve_ui(work: Path, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        work: Folder of all work, as `tunesmith run --work` has it.
        host: Address to listen on, of this machine alone.
        port: Port to listen on; 0 chooses a free one.
        say: Prints a line for people.

    Raises:
        ValueError: Others could reach the address, or the folder is not there.
        OSError: The address cannot be listened on.
    """
    if host not in LOOPBACK:
        raise ValueError(f"--host {host}: without keys only this machine may ask; write one of {', '.join(LOOPBACK)}")
    if not work.is_dir():
        raise ValueError(f"{work} is not there; run `tunesmith run` first, or name its folder with --work")
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    with closing(listener):
        config = uvicorn.Config(
            create_folder_app(work),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
        name = f"[{host}]" if ":" in host else host
        say(f"Console at http://{name}:{listener.getsockname()[1]}/console/ over {work}; Ctrl-C stops")
        say("It shows jobs, curves, gates and models; it has no files and no keys: `tunesmith hosted` has them.")
        await uvicorn.Server(config).serve(sockets=[listener])
