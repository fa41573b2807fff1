"""The web console as it is served: built once for its sources, into the cache folder."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cluster.paths import cache, locked

CONSOLE = Path(__file__).parents[2] / "console"
_MADE = {"node_modules", "dist"}
_SECONDS = 600


def console_folder() -> Path:
    """Return a copy of console/ with `node_modules` and `dist`; skips the test where Node.js is not installed."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; it is needed to build the console")
    modules = _modules()
    folder = cache() / "console" / f"build-{_digest(_sources())}"
    with locked(folder.with_suffix(".lock")):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(CONSOLE, folder, ignore=shutil.ignore_patterns(*_MADE))
            (folder / "node_modules").symlink_to(modules)
            run(folder, "npx", "vite", "build")
            (folder / "complete").touch()
    return folder


def run(folder: Path, *command: str) -> str:
    """Run a program of the console's, and return what it writes."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


def _modules() -> Path:
    """Return the folder of the packages that package.json names."""
    files = [CONSOLE / "package.json", CONSOLE / ".npmrc"]
    folder = cache() / "console" / f"modules-{_digest(files)}"
    with locked(folder.with_suffix(".lock")):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for file in files:
                shutil.copy(file, folder)
            run(folder, "npm", "install", "--no-audit", "--no-fund")
            (folder / "complete").touch()
    return folder / "node_modules"


def _sources() -> list[Path]:
    found = []
    for folder, names, files in os.walk(CONSOLE):
        names[:] = sorted(set(names) - _MADE)
        found += [Path(folder) / name for name in sorted(files)]
    return found


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(CONSOLE)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]
