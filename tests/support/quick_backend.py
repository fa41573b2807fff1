"""A backend that several processes share, whose jobs take as long as they say, and its log, for whoever watches it.

Objects are in a file of SQLite; a job's status follows from the time. What really trains is tested elsewhere: here it
matters what the service asks for, and when.
"""

import json
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.job_history import Entry
from tunesmith_api.manifests import Manifests
from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.interface.protocol import Kind, ObjectRef, ref_of

Object = dict[str, Any]
STEPS = 20

_TABLES = """
PRAGMA journal_mode=WAL;
CREATE TABLE IF NOT EXISTS objects (kind, namespace, name, body, seconds REAL, since REAL, before REAL DEFAULT 0,
  PRIMARY KEY (kind, namespace, name));
CREATE TABLE IF NOT EXISTS log (number INTEGER PRIMARY KEY, at REAL, act, kind, namespace, name);
"""


class QuickBackend:
    """Keeps objects in a file.

    Args:
        path: The file. While there is a file beside it that ends in `.down`, requests fail: some before and some after
            they have done what was asked, as when the API server is killed.
        seconds: The shortest and the longest time that a job takes; which one follows from its name.
    """

    def __init__(self, path: Path, seconds: tuple[float, float] = (0.2, 1.0)) -> None:
        self._path, self._seconds = path, seconds
        self._down = path.with_suffix(".down")
        with self._connected() as database:
            database.executescript(_TABLES)

    async def validate(self, manifests: Manifests) -> list[Any]:
        return []

    async def apply(self, manifests: Manifests) -> list[ObjectRef]:
        refs = []
        for item in (*manifests.fine_tune_jobs, *manifests.inference_workspaces):
            ref = ref_of(item)
            with self._writing() as database:
                self._apply(database, ref, item.document.plain())
            refs.append(ref)
        return refs

    async def get(self, ref: ObjectRef) -> Object:
        with self._writing() as database:
            return _shown(_row(database, ref), database, ref)

    async def list(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        with self._connected() as database:
            query = "SELECT namespace, name FROM objects WHERE kind=? ORDER BY 1, 2"
            found = [ObjectRef(kind, name, space) for space, name in database.execute(query, (kind,))]
        return [await self.get(ref) for ref in found if namespace in (None, ref.namespace)]

    async def suspend(self, ref: ObjectRef, suspended: bool = True) -> Object:
        with self._writing() as database:
            body, _, since, before = _row(database, ref)
            if bool(body["spec"].get("suspend")) != suspended:
                body["spec"]["suspend"] = suspended
                now = time.time()
                ran = before + (now - since if since else 0.0)
                _change(database, ref, body, None if suspended else now, ran)
                _log(database, "suspended" if suspended else "resumed", ref)
            return body

    async def delete(self, ref: ObjectRef) -> None:
        with self._writing() as database:
            _shown(_row(database, ref), database, ref)
            database.execute("DELETE FROM objects WHERE kind=? AND namespace=? AND name=?", _key(ref))
            _log(database, "deleted", ref)

    async def endpoint(self, ref: ObjectRef) -> str | None:
        return None

    async def close(self) -> None:
        pass

    def watch(self, ref: ObjectRef) -> AsyncIterator[Object]:
        raise NotImplementedError

    def logs(self, ref: ObjectRef, stage: Any = None, *, follow: bool = False) -> AsyncIterator[str]:
        raise NotImplementedError

    def _apply(self, database: sqlite3.Connection, ref: ObjectRef, plain: Object) -> None:
        body = {**plain, "status": {}}
        try:
            old, _, since, before = _row(database, ref)
        except BackendError:
            seconds = random.Random(ref.name).uniform(*self._seconds)
            values = (*_key(ref), json.dumps(body), seconds, time.time(), 0.0)
            database.execute("INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)", values)
            _log(database, "made", ref)
        else:
            if "suspend" in old["spec"]:
                body["spec"] = {**body["spec"], "suspend": old["spec"]["suspend"]}
            _change(database, ref, body, since, before)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Yield a transaction."""
        fails = self._down.exists()
        away = BackendError("the API server is not there", ErrorKind.RETRY)
        if fails and random.random() < 0.5:
            raise away
        with self._connected() as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
        if fails:
            raise away

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self._path, timeout=300, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous=OFF")
            yield database
        finally:
            database.close()


def _key(ref: ObjectRef) -> tuple[str, str, str]:
    return ref.kind, ref.namespace, ref.name


def _row(database: sqlite3.Connection, ref: ObjectRef) -> tuple[Object, float, float | None, float]:
    query = "SELECT body, seconds, since, before FROM objects WHERE kind=? AND namespace=? AND name=?"
    found = database.execute(query, _key(ref)).fetchone()
    if found is None:
        raise BackendError("there is none", ErrorKind.NOT_FOUND)
    body, *times = found
    return json.loads(body), *times


def _change(database: sqlite3.Connection, ref: ObjectRef, body: Object, since: float | None, before: float) -> None:
    query = "UPDATE objects SET body=?, since=?, before=? WHERE kind=? AND namespace=? AND name=?"
    database.execute(query, (json.dumps(body), since, before, *_key(ref)))


def _log(database: sqlite3.Connection, act: str, ref: ObjectRef, at: float | None = None) -> None:
    values = (time.time() if at is None else at, act, *_key(ref))
    database.execute("INSERT INTO log (at, act, kind, namespace, name) VALUES (?, ?, ?, ?, ?)", values)


def _shown(row: tuple[Object, float, float | None, float], database: sqlite3.Connection, ref: ObjectRef) -> Object:
    """Return an object with its status; the first to see that a job has ended writes into the log when it has."""
    body, seconds, since, before = row
    if ref.kind != "FineTuneJob":
        return body
    ran = before + (time.time() - since if since else 0.0)
    if ran >= seconds:
        if since:
            _log(database, "ended", ref, since + seconds - before)
            _change(database, ref, body, None, ran)
        progress = {"step": STEPS, "totalSteps": STEPS, "loss": 0.5}
        return {**body, "status": {"phase": "Succeeded", "progress": progress, "artifact": {"uri": "/no/artifact"}}}
    step = int(STEPS * ran / seconds)
    status: Object = {"phase": "Training", "progress": {"step": step, "totalSteps": STEPS, "loss": 3.0 - step / 10}}
    if since is None:
        waits = {"type": "Ready", "status": "Unknown", "reason": "Suspended", "message": "it waits"}
        status["conditions"] = [waits]
    return {**body, "status": status}


def log_of(path: Path) -> list[Entry]:
    """Return the log of FineTuneJobs, by time."""
    with sqlite3.connect(path) as database:
        query = "SELECT at, act, namespace, name FROM log WHERE kind='FineTuneJob' ORDER BY at, number"
        return [Entry(*row) for row in database.execute(query)]
