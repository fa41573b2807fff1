"""Progress for those who look on: a file in the work folder, and where there is one, the operator's progress server.

The server speaks the status protocol of Kubeflow Trainer, and these are its variables. Reporting is a convenience: it
happens in a thread of its own, and no failure of it reaches the work.
"""

from __future__ import annotations

import json
import logging
import os
import ssl
import threading
import time
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunesmith_api.contract import PROGRESS_CA_CERT, PROGRESS_TOKEN, PROGRESS_URL
from tunesmith_api.local.files import write_json
from tunesmith_api.work_folder import WorkFolder

log = logging.getLogger(__name__)

_INTERVAL = 2.0  # seconds between two reports
_AFTER_FAILURE = 10.0
_TIMEOUT = 5.0


class Reporter:
    """Sends the newest progress to the server, at most one report every two seconds."""

    def __init__(self, url: str, token: Path, ca_cert: Path | None) -> None:
        """Start it.

        Args:
            url: Where reports go.
            token: File with the token that says who we are; it is renewed by others.
            ca_cert: File with the authority that the server is known by; None for those that the system knows.
        """
        self._url = url
        self._token = token
        self._ca_cert = ca_cert
        self._changed = threading.Condition()
        self._newest: Mapping[str, Any] | None = None
        self._is_sending = False
        threading.Thread(target=self._run, name="reporter", daemon=True).start()

    def tell(self, progress: Mapping[str, Any]) -> None:
        """Take the newest progress; it is sent later, unless it is overtaken."""
        with self._changed:
            self._newest = dict(progress)
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until the newest progress is sent, for at most some seconds, and return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._newest is None and not self._is_sending, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None)
                progress, self._newest, self._is_sending = self._newest, None, True
            pause = _INTERVAL
            try:
                self._send(body_of(progress or {}))
            except Exception as error:  # The work goes on, whatever this was.
                log.debug("progress could not be reported: %s", error)
                pause = _AFTER_FAILURE
            with self._changed:
                self._is_sending = False
                self._changed.notify_all()
            time.sleep(pause)

    def _send(self, body: Mapping[str, Any]) -> None:
        context = ssl.create_default_context(cafile=self._ca_cert if self._ca_cert else None)
        # The server is inside the cluster, where no proxy leads to.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        headers = {"Authorization": f"Bearer {self._token.read_text().strip()}", "Content-Type": "application/json"}
        request = urllib.request.Request(self._url, json.dumps(body).encode(), headers, method="POST")  # noqa: S310
        with opener.open(request, timeout=_TIMEOUT):
            pass


def body_of(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report in the protocol's form: every value is a metric, by the name that it has in a status."""
    status: dict[str, Any] = {"lastUpdatedTime": datetime.now(UTC).isoformat()}
    step, total, left = progress.get("step"), progress.get("totalSteps"), progress.get("etaSeconds")
    if isinstance(step, int) and isinstance(total, int) and total > 0:
        status["progressPercentage"] = min(100, step * 100 // total)
    if isinstance(left, int | float):
        status["estimatedRemainingSeconds"] = max(0, int(left))
    status["metrics"] = [{"name": name, "value": str(value)} for name, value in progress.items() if value is not None]
    return {"trainerStatus": status}


_reporter: Reporter | None = None
_started = threading.Lock()


def reporter() -> Reporter | None:
    """Return this process's reporter, started when it is first asked for; None where no server is named."""
    global _reporter  # noqa: PLW0603 - one thread a process
    url, token, ca_cert = (os.environ.get(name) for name in (PROGRESS_URL, PROGRESS_TOKEN, PROGRESS_CA_CERT))
    if not url or not token:
        return None
    with _started:
        if _reporter is None:
            _reporter = Reporter(url, Path(token), Path(ca_cert) if ca_cert else None)
    return _reporter


def tell(work: WorkFolder, progress: Mapping[str, Any]) -> None:
    """Tell the newest progress.

    Args:
        work: The work folder, whose progress file is replaced.
        progress: The fields of a status's `progress`.
    """
    write_json(work.progress, dict(progress), sync=False)
    if (chosen := reporter()) is not None:
        chosen.tell(progress)


def flush(seconds: float = 1.0) -> None:
    """Give what was told last some time to be sent, before the process ends."""
    if _reporter is not None:
        _reporter.flush(seconds)
