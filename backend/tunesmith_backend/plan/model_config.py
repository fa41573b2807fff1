"""Reads the config.json of a base model without its weights, and without loading a machine-learning library."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunesmith_api.contract import is_final, reason_of
from tunesmith_api.spec import ModelSpec
from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.plan.hub import hub_file

CONFIG = "config.json"
_SECONDS = 60.0


def model_config(model: ModelSpec, seconds: float = 15.0) -> dict[str, Any]:
    """Return the config.json of an existing model; only this file is read.

    Args:
        model: The model, with an absolute path or a URI.
        seconds: How long the Hugging Face hub is waited for.

    Raises:
        BackendError: It cannot be read. The message says what to do.
    """
    uri = model.uri or ""
    if uri.startswith("hf://"):
        return _parse(hub_file(uri, model.revision, CONFIG, seconds), f"{uri}/{CONFIG}")
    if (path := _local_path(uri)) is not None:
        return _parse(_read(path / CONFIG), str(path / CONFIG))
    return _parse(_fetch(f"{uri.rstrip('/')}/{CONFIG}"), f"{uri}/{CONFIG}")


def _local_path(uri: str) -> Path | None:
    """Return the path that a path or file:// URI means, None for any other URI."""
    if "://" in uri and not uri.startswith("file://"):
        return None
    return Path(uri.removeprefix("file://")).expanduser()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        remedy = "correct spec.model.uri; it must be a folder in the transformers layout"
        raise BackendError(f"{path}: {what}; {remedy}") from None


def _fetch(uri: str) -> bytes:
    """Return a file of an object store, by the trainer's own clients in a child process."""
    if find_spec("fsspec") is None:
        raise BackendError(
            f"{uri} can be read only with the trainer's clients of object stores; install them with: "
            'pip install "tunesmith[trainer]"'
        )
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / CONFIG
        command = [sys.executable, "-m", "tunesmith_trainer.storage", "file", uri, str(target)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            message = f"{uri}: no answer within {_SECONDS:.0f} s; check the network and the store's settings"
            raise BackendError(message, ErrorKind.RETRY) from None
        if done.returncode:
            reason = reason_of(done.returncode)
            kind = ErrorKind.INVALID if reason is not None and is_final(reason) else ErrorKind.RETRY
            last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise BackendError(re.sub(r"^[A-Za-z]+: ", "", last[0]), kind)
        return target.read_bytes()


def _parse(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BackendError(f"{name} is not JSON ({error}); download or save the model again") from None
    if not isinstance(value, dict):
        raise BackendError(f"{name} is not a JSON object; download or save the model again")
    return value
