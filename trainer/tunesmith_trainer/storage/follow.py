"""Follows a list of adapters: copies those in object stores to the local disk, and writes the list for the server.

It runs beside a server, which has no libraries of object stores and no credentials. The lists have the form of
`tunesmith_api.contract.ADAPTERS_FILE`; in the one that is read a path may be a URI, and an entry may name a Secret.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_api.contract import ADAPTERS_FILE
from tunesmith_api.failures import StageError
from tunesmith_trainer.storage.fetch import fetch_artifact
from tunesmith_trainer.storage.files import read_json, write_json

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
_AT_ONCE = 4
_FIRST_WAIT, _LONGEST_WAIT = 2.0, 60.0


@dataclass
class _Copy:
    """An adapter in an object store.

    Attributes:
        folder: Where it is copied to.
        job: The copying; None between two attempts, and when it is done.
        done: Whether it is there as a whole.
        error: Why the last attempt failed.
        failures: Attempts that failed.
        due: Time of the next attempt, by `time.monotonic`.
    """

    folder: Path
    job: Future[str | None] | None = None
    done: bool = False
    error: str | None = None
    failures: int = 0
    due: float = 0.0


class Follower:
    """Brings a folder in line with a list.

    Args:
        wanted: The list that is followed; it may be absent.
        folder: Where adapters are copied to, and the list for the server is written.
        secrets: Folder with a folder for each Secret, which has a file for each variable.
    """

    def __init__(self, wanted: Path, folder: Path, secrets: Path | None = None) -> None:
        self._wanted = wanted
        self._folder = folder
        self._secrets = secrets
        self._copies: dict[tuple[str, str | None], _Copy] = {}
        self._pool = ThreadPoolExecutor(_AT_ONCE, "fetch")
        self._list: dict[str, Any] | None = None

    def run(self, stop: threading.Event) -> None:
        """Follow the list until the event is set."""
        while not stop.is_set():
            self.step()
            stop.wait(POLL_SECONDS)

    def step(self) -> None:
        """Read the list, begin and end copies, and write the server's list if it has changed."""
        found = read_json(self._wanted)
        # A list that is being replaced can be absent for a moment.
        if isinstance(found, dict) and isinstance(found.get("adapters"), list):
            self._list = found
        if self._list is None:
            return
        entries = self._list["adapters"]
        content = {"version": self._list.get("version"), "adapters": [self._entry(entry) for entry in entries]}
        if content != read_json(self._folder / ADAPTERS_FILE):
            write_json(self._folder / ADAPTERS_FILE, content, sync=False)
        self._drop({_key(entry) for entry in entries})

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _entry(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Return an entry for the server."""
        kept: dict[str, Any] = {name: entry[name] for name in ("name", "digest") if name in entry}
        path = str(entry.get("path") or "")
        if "://" not in path:
            return {**kept, "path": path}
        copy = self._copies.setdefault(_key(entry), _Copy(self._folder / _folder_name(*_key(entry))))
        self._advance(copy, *_key(entry))
        if copy.done:
            return {**kept, "path": str(copy.folder)}
        return {**kept, "error": copy.error} if copy.error else kept

    def _advance(self, copy: _Copy, uri: str, secret: str | None) -> None:
        if copy.job is not None and copy.job.done():
            copy.error = copy.job.result()
            copy.job, copy.done = None, copy.error is None
            if copy.error is not None:
                wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2**copy.failures)
                copy.failures, copy.due = copy.failures + 1, time.monotonic() + wait
                log.warning("%s; next attempt in %.0f s", copy.error, wait)
        if not copy.done and copy.job is None and time.monotonic() >= copy.due:
            copy.job = self._pool.submit(self._fetch, uri, copy.folder, secret)

    def _fetch(self, uri: str, folder: Path, secret: str | None) -> str | None:
        """Copy an adapter, and return why that failed; None if it did not."""
        started = time.monotonic()
        try:
            if secret is None:
                fetch_artifact(uri, folder)
            elif (problem := self._fetch_with(uri, folder, secret)) is not None:
                return problem
        except StageError as error:
            return " ".join(str(error).split())
        except Exception as error:
            log.exception("%s", uri)
            return f"{uri}: {error!r}"
        log.info("%s: copied within %.1f s", uri, time.monotonic() - started)
        return None

    def _fetch_with(self, uri: str, folder: Path, secret: str) -> str | None:
        """Copy an adapter by a process of its own, as the libraries take credentials from variables."""
        variables = {}
        with suppress(OSError):
            files = [path for path in (self._secrets or Path()).joinpath(secret).iterdir() if path.is_file()]
            variables = {path.name: path.read_text() for path in files}
        if not variables:
            return (
                f"{uri}: there is no Secret {secret} in this namespace, or it is empty; create it, or correct secretRef"
            )
        command = [sys.executable, "-m", "tunesmith_trainer.storage", "fetch", uri, str(folder)]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return None
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"{uri}: the copying process ended with exit code {done.returncode}"

    def _drop(self, wanted: set[tuple[str, str | None]]) -> None:
        """Remove the copies that the list no longer names."""
        for key, copy in list(self._copies.items()):
            if key not in wanted and (copy.job is None or copy.job.done()):
                del self._copies[key]
                shutil.rmtree(copy.folder, ignore_errors=True)


def _key(entry: dict[str, Any]) -> tuple[str, str | None]:
    return str(entry.get("path") or ""), entry.get("secret")


def _folder_name(uri: str, secret: str | None) -> str:
    return hashlib.sha256(json.dumps([uri, secret]).encode()).hexdigest()[:16]
