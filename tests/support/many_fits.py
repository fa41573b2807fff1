"""Trains one work folder after the other, and keeps what `fit` returns, or why it did not."""

import json
from pathlib import Path
from typing import Any

from support.technique_runs import RunError, Runs


def fit_all(runs: Runs, folders: list[Path], processes: int = 2) -> None:
    """Train each work folder in this number of processes, and write what `fit` returns to `fit.json` in it.

    Where there is a file `stop-after` with a number, training is asked to stop after so many steps.
    """
    for folder in folders:
        file = folder / "stop-after"
        stop = int(file.read_text()) if file.exists() else None
        result: dict[str, Any]
        try:
            result = runs.train(folder, processes=processes, stop_after=stop)[0]["result"]
        except RunError as error:
            if error.reason != "Interrupted":
                raise
            result = {"error": error.message}
        (folder / "fit.json").write_text(json.dumps(result))
