"""The time at which rows were rendered, for chat templates that write the date."""

from __future__ import annotations

import time
from pathlib import Path

from tunesmith_trainer.storage.files import read_json, write_json

_FILE = "rendering-time.json"


def record_rendering_time(folder: Path, template: str | None) -> None:
    """Write the time into a folder if a chat template uses it; other rows are the same at any time."""
    if template is not None and "strftime_now" in template:
        write_json(folder / _FILE, {"seconds": time.time()})


def read_rendering_time(folder: Path) -> float | None:
    """Return the time in seconds since the epoch, or None if the rows do not depend on it."""
    found = read_json(folder / _FILE)
    return None if found is None else float(found["seconds"])
