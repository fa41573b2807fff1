"""Jobs for tests of the prepare stage: a work folder with a configuration, and the stage as a child process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRATCH = {
    "scratch": {
        "architecture": "llama",
        "hiddenSize": 64,
        "intermediateSize": 128,
        "numHiddenLayers": 2,
        "vocabSize": 400,
        "maxPositionEmbeddings": 256,
    }
}


def write_rows(path: Path, rows: int = 40) -> Path:
    """Write promptCompletion rows as JSON lines."""
    lines = [{"prompt": f"What is {n} plus one?", "completion": f"It is {n + 1}."} for n in range(rows)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_job(
    work: Path,
    data: Path | str,
    model: dict[str, Any] | None = None,
    *,
    dataset: dict[str, Any] | None = None,
    **spec: Any,
) -> Path:
    """Write the configuration of a job into a work folder and return the folder."""
    work.mkdir(parents=True, exist_ok=True)
    whole = {
        "model": model or SCRATCH,
        "dataset": {"sources": [{"uri": str(data)}], **(dataset or {})},
        "training": {"maxLength": 128},
        **spec,
    }
    (work / "config.json").write_text(json.dumps({"name": "test", "spec": whole}))
    return work


def start_prepare(work: Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start the stage as a child process."""
    command = [sys.executable, "-m", "tunesmith_trainer", "prepare", "--work", str(work)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def run_prepare(work: Path, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run the stage as a child process; return its exit code and what it wrote to stderr."""
    with start_prepare(work, env) as process:
        _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def read_result(work: Path) -> dict[str, Any]:
    """What the stage's marker says."""
    return json.loads((work / "prepare" / "stage.json").read_bytes())


def read_outcome(work: Path) -> dict[str, Any]:
    """What the stage's outcome file says."""
    return json.loads((work / "prepare-outcome.json").read_bytes())
