"""Each state that a FineTuneJob has had, from the etcd of an API server: its watches miss some while it is away."""

import base64
import json
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

from cluster.client import Cluster
from support.job_history import Entry
from support.manifests import job

Object = dict[str, Any]
KEEP_HISTORY = "--etcd-compaction-interval=0"
"""Option of an API server by which its etcd forgets nothing."""

_PREFIX = "/registry/tunesmith.dev/finetunejobs/"
_SECONDS = 120.0


def history_of(cluster: Cluster, etcd: str, since: int = 1) -> list[Entry]:
    """Return what has happened to all FineTuneJobs, in the order in which it was stored.

    A job runs from when it is there until it has ended or is gone, or its operator says that it is suspended.

    Args:
        cluster: The cluster, which gets another FineTuneJob: the history is read up to that.
        etcd: The URL of its etcd.
        since: The first revision.
    """
    end = f"end-{uuid.uuid4().hex[:8]}"
    cluster.create(job(end), "default")
    entries: list[Entry] = []
    running: set[tuple[str, str]] = set()
    for event in _events(etcd, since):
        kv = event["kv"]
        namespace, name = base64.b64decode(kv["key"]).decode().removeprefix(_PREFIX).split("/")
        if name == end:
            break
        key, at = (namespace, name), int(kv["mod_revision"])
        runs = event.get("type") != "DELETE" and _runs(stored := json.loads(base64.b64decode(kv["value"])))
        if event.get("type") == "DELETE":
            entries.append(Entry(at, "deleted", *key))
        elif kv["mod_revision"] == kv["create_revision"]:
            entries.append(Entry(at, "made", *key))
        elif runs != (key in running):
            ended = "ended" if _has_ended(stored) else "suspended"
            entries.append(Entry(at, "resumed" if runs else ended, *key))
        (running.add if runs else running.discard)(key)
    cluster.delete("FineTuneJob", end, "default")
    return entries


def revision_of(etcd: str) -> int:
    """Return the newest revision."""
    with _post(etcd, "/v3/kv/range", {"key": _encoded("/"), "limit": "1"}) as answer:
        return int(json.load(answer)["header"]["revision"])


def _events(etcd: str, since: int) -> Iterator[Object]:
    """Yield all changes, and then those that come."""
    watched = {"key": _encoded(_PREFIX), "range_end": _encoded(f"{_PREFIX[:-1]}0"), "start_revision": str(since)}
    with _post(etcd, "/v3/watch", {"create_request": {**watched, "fragment": True}}) as answer:
        for line in answer:
            result = json.loads(line)["result"]
            if result.get("canceled"):
                raise RuntimeError(f"etcd has forgotten what was before: {result}")
            yield from result.get("events", ())


def _post(etcd: str, path: str, body: Object) -> Any:  # noqa: ANN401
    request = urllib.request.Request(f"{etcd}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=_SECONDS)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _runs(stored: Object) -> bool:
    is_suspended = stored["spec"].get("suspend") and _ready(stored).get("reason") == "Suspended"
    return not _has_ended(stored) and not is_suspended


def _has_ended(stored: Object) -> bool:
    return stored.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _ready(stored: Object) -> Object:
    conditions = stored.get("status", {}).get("conditions") or []
    return next((item for item in conditions if item["type"] == "Ready"), {})
