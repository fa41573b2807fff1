"""Following the list of adapters while the server runs."""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_serving.engines.text_generation.adapters.fetching import local_folder
from tunesmith_serving.engines.text_generation.adapters.listing import Entry, Listing, read_listing
from tunesmith_serving.engines.text_generation.adapters.loading import LoraBase, load_adapter
from tunesmith_serving.engines.text_generation.adapters.store import AdapterState, AdapterStore
from tunesmith_serving.runtime.errors import ServingError

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""A change of the list is seen within this time. Polling also sees the symbolic links that a ConfigMap is made of."""
LOADERS = 4
"""Adapters that are copied and verified at the same time."""
LONGEST_PAUSE = 30.0
"""Seconds after which an adapter that could not be loaded is tried again, at the latest."""


@dataclass
class _Attempt:
    """An entry that is being loaded, or was.

    Attributes:
        entry: The entry.
        running: Whether it is being loaded now.
        failures: How often it could not be loaded.
        due: When it is tried again, by `time.monotonic()`; None if it is loaded.
    """

    entry: Entry
    running: bool = False
    failures: int = 0
    due: float | None = 0.0


class AdapterWatcher:
    """Loads what a list gains and drops what it loses, on threads of its own.

    Attributes:
        version: The version of the list in force; None before there is one, or if it has none.
        problem: What is wrong with the list as a whole, or with entries without a name; empty if nothing is.
    """

    def __init__(self, path: Path, store: AdapterStore, base: LoraBase, reserved: str) -> None:
        """Start to follow a list.

        Args:
            path: The file with the list; without one no adapter is served until it is there.
            store: Gets the adapters.
            base: What they must fit.
            reserved: The base's name in requests.
        """
        self.version: str | None = None
        self.problem = ""
        self._path = path
        self._store = store
        self._base = base
        self._reserved = reserved
        self._lock = threading.Condition()
        self._attempts: dict[str, _Attempt] = {}
        self._seen: tuple[int, ...] | None = None
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(LOADERS, "tunesmith-adapter")
        self._thread = threading.Thread(target=self._run, name="tunesmith-adapters", daemon=True)
        self._thread.start()

    def settle(self, timeout: float) -> bool:
        """Wait until no entry of the list is pending; return whether that was within `timeout` seconds."""
        with self._lock:
            return self._lock.wait_for(
                lambda: self._seen is not None and "Pending" not in {s.state for s in self._store.states().values()},
                timeout,
            )

    def report(self) -> dict[str, Any]:
        """Return the answer to `tunesmith_api.contract.ADAPTERS_PATH`: all of it from one list."""
        with self._lock:
            states = self._store.states()
            entries = [
                {"name": name, "digest": state.digest or None, "state": state.state, "message": state.message or None}
                for name, state in states.items()
            ]
            return {"version": self.version, "adapters": entries, **({"problem": self.problem} if self.problem else {})}

    def close(self) -> None:
        """Stop following the list; adapters that are loaded stay."""
        self._stop.set()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _run(self) -> None:
        while True:
            self._poll()
            if self._stop.wait(POLL_SECONDS):
                return

    def _poll(self) -> None:
        """Read the list if it has changed, and start what is due."""
        try:
            found = os.stat(self._path)
            seen: tuple[int, ...] | None = (found.st_mtime_ns, found.st_ino, found.st_dev, found.st_size)
            if seen != self._seen:
                self._apply(read_listing(self._path.read_bytes(), self._reserved))
        except (OSError, ValueError) as error:
            # The file may be half written, or replaced right now: what is served stays served.
            seen = None
            self._complain(f"{self._path} cannot be read: {error}")
        with self._lock:
            self._seen = seen
            now = time.monotonic()
            for attempt in self._attempts.values():
                # One that could not be read while it was served is loaded again.
                is_gone = attempt.entry.path and not attempt.running and self._store.get(attempt.entry.name) is None
                if is_gone and attempt.due is None:
                    attempt.due = now
            due = [a for a in self._attempts.values() if not a.running and a.due is not None and a.due <= now]
            for attempt in due:
                attempt.running = True
                self._pool.submit(self._load, attempt)
            self._lock.notify_all()

    def _apply(self, listing: Listing) -> None:
        self._complain("; ".join(listing.problems))
        with self._lock:
            for name in set(self._store.states()) - set(listing.entries) - set(listing.refused):
                self._attempts.pop(name, None)
                self._store.remove(name)
            for name, reason in listing.refused.items():
                self._attempts.pop(name, None)
                self._store.remove(name)
                self._store.report(name, AdapterState("Failed", reason))
                logger.warning("adapter %s: %s", name, reason)
            for name, entry in listing.entries.items():
                if name not in self._attempts or self._attempts[name].entry != entry:
                    # Without a path it is being copied by somebody else, who then writes the list again.
                    self._attempts[name] = _Attempt(entry, due=0.0 if entry.path else None)
                    if entry.error:  # one that was there before is served on
                        self._fail(entry, entry.error)
                        continue
                    message = "" if entry.path else "it is being fetched"
                    self._store.report(name, AdapterState("Pending", message, entry.digest))
            self.version = listing.version

    def _complain(self, problem: str) -> None:
        if problem and problem != self.problem:
            logger.warning("list of adapters: %s", problem)
        self.problem = problem

    def _load(self, attempt: _Attempt) -> None:
        """Load an entry, and serve it if the list still has it."""
        entry = attempt.entry
        adapter, problem = None, ""
        try:
            with local_folder(entry.path, self._stop) as folder:
                adapter = load_adapter(folder, entry.name, self._base, entry.digest, entry.path)
        except ServingError as error:
            problem = str(error)
        except Exception as error:
            logger.exception("adapter %s", entry.name)
            problem = f"{type(error).__name__}: {error}"
        with self._lock:
            attempt.running = False
            attempt.due = None
            if adapter is None:
                attempt.due = time.monotonic() + min(LONGEST_PAUSE, POLL_SECONDS * 2**attempt.failures)
                attempt.failures = min(attempt.failures + 1, 10)
            if self._attempts.get(entry.name) is attempt:
                if adapter is not None:
                    self._store.add(adapter)
                    logger.info("adapter %s: loaded", entry.name)
                else:
                    self._fail(entry, problem)
            self._lock.notify_all()

    def _fail(self, entry: Entry, problem: str) -> None:
        kept = self._store.get(entry.name)
        if kept is not None:
            problem += f" (until then {entry.name} is the one before, {kept.digest[:17]}...)"
        state = AdapterState("Failed", problem, entry.digest)
        if self._store.states().get(entry.name) != state:
            logger.warning("adapter %s: %s", entry.name, problem)
        self._store.report(entry.name, state)
