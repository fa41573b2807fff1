"""The command line as people call it, and what it leaves of the tiny job."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml


def tunesmith(*arguments: Any, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder to its end."""
    command = [sys.executable, "-m", "tunesmith_cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False, **options)


def write(folder: Path, *objects: dict[str, Any]) -> Path:
    """Write objects as the manifests of a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "all.yaml").write_text(yaml.safe_dump_all(objects, sort_keys=False))
    return folder


def status(folder: Path, name: str = "tiny", kind: str = "finetunejob") -> dict[str, Any]:
    """The status of an object that was run in a folder."""
    found: dict[str, Any] = json.loads((folder / ".tunesmith" / "default" / name / f"{kind}-status.json").read_text())
    return found


def condition(of: dict[str, Any], kind: str) -> dict[str, Any]:
    """The condition of a type in a status."""
    return next(item for item in of["conditions"] if item["type"] == kind)
