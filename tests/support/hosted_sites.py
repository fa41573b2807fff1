"""Where the jobs of a fleet run: in a backend of the tests, or behind a real API server. Either can be interrupted."""

import random
import time
from pathlib import Path
from typing import Any, Protocol

from support.job_history import Entry
from support.quick_backend import QuickBackend, log_of

_MOST_PAUSE = 1.0


class Site(Protocol):
    """Where jobs run.

    Attributes:
        name: What is interrupted.
        options: Of `support.hosted_replica`.
        environment: Of the replicas.
        settings: Of the service.
    """

    name: str
    options: list[str]
    environment: dict[str, str]
    settings: dict[str, Any]

    def interrupt(self, choice: random.Random) -> None:
        """Let it be away for a moment."""

    def history(self) -> list[Entry]:
        """Return what has happened to the jobs."""


class QuickSite:
    """The backend of the tests.

    Args:
        file: Its file.
        seconds: The shortest and the longest time that a job takes.
    """

    name = "backend"

    def __init__(self, file: Path, seconds: tuple[float, float]) -> None:
        self.file = file
        self.options = ["--quick", str(file), *map(str, seconds)]
        self.environment: dict[str, str] = {}
        self.settings: dict[str, Any] = {}
        QuickBackend(file, seconds)

    def interrupt(self, choice: random.Random) -> None:
        """Let requests fail for a moment."""
        down = self.file.with_suffix(".down")
        down.touch()
        time.sleep(choice.uniform(0.1, _MOST_PAUSE))
        down.unlink()

    def history(self) -> list[Entry]:
        """Return what the backend has logged."""
        return log_of(self.file)
