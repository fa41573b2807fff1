"""Other people's clients, installed once at exact versions into the cache folder, outside the project's environment."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.paths import cache, locked

CLIENTS = Path(__file__).parents[1] / "integration" / "clients"
INSTALL_SECONDS = 600
RUN_SECONDS = 300


def python_with_clients() -> Path:
    """The interpreter of an environment with clients/requirements.txt."""
    requirements = CLIENTS / "requirements.txt"

    def install(folder: Path) -> None:
        python = folder / "bin" / "python"
        uv = [sys.executable, "-m", "uv"]
        _run([*uv, "venv", "--python", sys.executable, str(folder)])
        _run([*uv, "pip", "install", "--python", str(python), "--no-deps", "-r", str(requirements)])

    return _installed("python", [requirements], install) / "bin" / "python"


def node_folder() -> Path:
    """A folder with the node_modules of clients/node; skips the test where Node.js is not installed."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; it is needed for the Node client")
    files = [CLIENTS / "node" / name for name in ("package.json", "package-lock.json")]

    def install(folder: Path) -> None:
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
        _run(["npm", "ci", "--no-audit", "--no-fund", "--prefix", str(folder)])

    return _installed("node", files, install)


def run_client(command: list[str | Path], url: str, model: str, **variables: str) -> dict[str, Any]:
    """Run a client program against a server; returns the JSON object that it prints last."""
    done = subprocess.run(
        [*command],
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
        env={
            **os.environ,
            "OPENAI_BASE_URL": f"{url}/v1",
            "OPENAI_API_KEY": "none",
            "TEST_MODEL": model,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # LiteLLM would fetch it
            "LANGSMITH_TRACING": "false",
            **variables,
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _installed(name: str, files: list[Path], install: Callable[[Path], None]) -> Path:
    """The cache folder for these requirements, filled if it is not complete."""
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    parent = cache() / "clients"
    folder = parent / f"{name}-{version}-{digest}"
    with locked(parent / f"{folder.name}.lock"):
        if not (folder / "complete").exists():
            # Not renamed into place: an environment's scripts hold its path.
            shutil.rmtree(folder, ignore_errors=True)
            install(folder)
            (folder / "complete").touch()
    return folder


def _run(command: list[str]) -> None:
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or _pip_index()
    variables = {"UV_SYSTEM_CERTS": "1", **({"UV_DEFAULT_INDEX": index} if index else {})}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"


def _pip_index() -> str:
    """The index of pip's configuration, which uv does not read; empty for the default one."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
