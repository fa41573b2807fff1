"""The folder of an adapter, which is copied first if it is in an object store."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith_serving.engines.text_generation.adapters.errors import AdapterError

# Stages copy artifacts with this module, which knows object stores and their credentials. It runs as a process of its
# own: it has large libraries, which the server does without. An image of the server alone does not have it.
STORAGE = "tunesmith_trainer.storage"
_POLL_SECONDS = 0.05


@contextmanager
def local_folder(path: str, stop: threading.Event) -> Iterator[Path]:
    """Give the folder of an adapter's artifact; a copy is removed again, and files that are open then stay readable.

    Args:
        path: A folder, or the URI of one.
        stop: Ends a copy early.

    Raises:
        AdapterError: It cannot be copied.
    """
    if "://" not in path or path.startswith("file://"):
        yield Path(path.removeprefix("file://"))
        return
    if importlib.util.find_spec(STORAGE.partition(".")[0]) is None:
        raise AdapterError(
            f"this server cannot read {path}: it has no {STORAGE}, which copies artifacts; list a folder that holds "
            "the adapter"
        )
    with tempfile.TemporaryDirectory(prefix="tunesmith-adapter-") as folder:
        _copy(path, folder, stop)
        yield Path(folder)


def _copy(uri: str, folder: str, stop: threading.Event) -> None:
    command = [sys.executable, "-m", STORAGE, "fetch", uri, folder]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None and not stop.wait(_POLL_SECONDS):
                pass
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
            raise AdapterError(f"{uri} could not be copied: {lines[-1].strip()}")
