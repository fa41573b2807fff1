"""Reports progress to the work folder and, in a cluster, to the operator.

The operator's progress server speaks the status protocol of Kubeflow Trainer, and its address comes in that protocol's
variables. A thread of its own sends the reports, and a failure to report never fails the stage.
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
        """Start the thread.

        Args:
            url: URL that reports are posted to.
            token: File with the service account's token. It is read for each report, as the kubelet renews it.
            ca_cert: File with the certificate authority of the server; None for the system's authorities.
        """
        self._url = url
        self._token = token
        self._ca_cert = ca_cert
        self._changed = threading.Condition()
        self._newest: Mapping[str, Any] | None = None
        self._is_sending = False
        threading.Thread(target=self._run, name="reporter", daemon=True).start()

    def submit(self, progress: Mapping[str, Any]) -> None:
        """Hand over the newest progress. It is sent later, unless newer progress replaces it."""
        with self._changed:
            self._newest = dict(progress)
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait at most `seconds` until the newest progress is sent, and return whether it is."""
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
            except Exception as error:  # Whatever it is, the stage continues.
                log.debug("progress could not be reported: %s", error)
                pause = _AFTER_FAILURE
            with self._changed:
                self._is_sending = False
                self._changed.notify_all()
            time.sleep(pause)

    def _send(self, body: Mapping[str, Any]) -> None:
        context = ssl.create_default_context(cafile=self._ca_cert if self._ca_cert else None)
        # No proxy: the server is inside the cluster.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        headers = {"Authorization": f"Bearer {self._token.read_text().strip()}", "Content-Type": "application/json"}
        request = urllib.request.Request(self._url, json.dumps(body).encode(), headers, method="POST")  # noqa: S310
        with opener.open(request, timeout=_TIMEOUT):
            pass


def body_of(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report in the protocol's format. Every value is a metric, named as in the job's status."""
    status: dict[str, Any] = {"lastUpdatedTime": datetime.now(UTC).isoformat()}
    step, total, left = progress.get("step"), progress.get("totalSteps"), progress.get("etaSeconds")
    if isinstance(step, int) and isinstance(total, int) and total > 0:
        status["progressPercentage"] = min(100, step * 100 // total)
    if isinstance(left, int | float):
        status["estimatedRemainingSeconds"] = max(0, int(left))
    status["metrics"] = [{"name": name, "value": str(value)} for name, value in progress.items() if value is not None]
    return {"trainerStatus": status}


_reporter: Reporter | None = None
_start_lock = threading.Lock()


def reporter() -> Reporter | None:
    """Return this process's reporter, started on the first call; None if no server is configured."""
    global _reporter  # noqa: PLW0603 - one thread per process
    url, token, ca_cert = (os.environ.get(name) for name in (PROGRESS_URL, PROGRESS_TOKEN, PROGRESS_CA_CERT))
    if not url or not token:
        return None
    with _start_lock:
        if _reporter is None:
            _reporter = Reporter(url, Path(token), Path(ca_cert) if ca_cert else None)
    return _reporter


def report_progress(work: WorkFolder, progress: Mapping[str, Any]) -> None:
    """Report the newest progress.

    Args:
        work: The work folder; its progress file is replaced.
        progress: Fields of a status's `progress`.
    """
    write_json(work.progress, dict(progress), sync=False)
    if (chosen := reporter()) is not None:
        chosen.submit(progress)


def flush_progress(seconds: float = 1.0) -> None:
    """Give the newest report some time to be sent, before the process exits."""
    if _reporter is not None:
        _reporter.flush(seconds)
