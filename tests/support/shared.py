"""What is expensive to make is made once for a test run, by one of the workers of pytest-xdist."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a path that `make` has filled, in this worker or in another one; nobody may change what is there.

    Args:
        factory: pytest's factory of folders.
        name: A name that nothing else has in the test run.
        make: Makes the file or folder. It may leave files beside it.
    """
    base = factory.getbasetemp()
    # A worker's folder is in that of the test run.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared" / name
    folder.mkdir(parents=True, exist_ok=True)
    found = folder / name
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            make(found)
            (folder / "complete").touch()
    return found
