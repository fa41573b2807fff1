"""The two durations that users notice: from a job's creation to its first Job, and from training's end to serving."""

from __future__ import annotations

from tunesmith_operator.engine.kube.resources import FINE_TUNE_JOB, INFERENCE_WORKSPACE, JOB
from tunesmith_operator.engine.labels import STAGE
from tunesmith_operator.engine.metrics import Metrics, seconds_since
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.engine.watch.store import ObjectStore


class Measure:
    """Measures at each write, from the timestamps in the objects.

    Args:
        metrics: Receives the durations.
        store: The watched objects.
    """

    def __init__(self, metrics: Metrics, store: ObjectStore) -> None:
        self._metrics = metrics
        self._store = store

    def child(self, owner: KubeObject, child: KubeObject) -> None:
        """Record the creation of a child."""
        if owner["kind"] != FINE_TUNE_JOB.kind or child["kind"] != JOB.kind:
            return
        if len(self._store.owned(JOB.kind, owner["metadata"]["uid"])) == 1 and not _has_run(owner):
            self._metrics.first_job_seconds.observe(seconds_since(owner["metadata"]["creationTimestamp"]))

    def status(self, before: KubeObject, after: KubeObject) -> None:
        """Record the writing of a status."""
        if after["kind"] != INFERENCE_WORKSPACE.kind or not _is_ready(after):
            return
        revision = (after.get("status") or {}).get("revision")
        if not revision or (_is_ready(before) and (before.get("status") or {}).get("revision") == revision):
            return
        ended = self._training_end(after)
        # For a workspace created later, the duration would include the time until somebody created it.
        if ended is not None and ended >= after["metadata"]["creationTimestamp"]:
            self._metrics.serving_seconds.observe(seconds_since(ended))

    def _training_end(self, workspace: KubeObject) -> str | None:
        name = ((workspace.get("spec") or {}).get("model") or {}).get("fineTuneJob")
        job = self._store.get(FINE_TUNE_JOB.kind, workspace["metadata"]["namespace"], name) if name else None
        if job is None:
            return None
        ends = [
            str(child["status"]["completionTime"])
            for child in self._store.owned(JOB.kind, job["metadata"]["uid"])
            if (child["metadata"].get("labels") or {}).get(STAGE) == "train"
            and (child.get("status") or {}).get("completionTime")
        ]
        return max(ends, default=None)


def _has_run(job: KubeObject) -> bool:
    attempts = (job.get("status") or {}).get("attempts") or {}
    return any(int(count or 0) > 1 for count in attempts.values())


def _is_ready(obj: KubeObject) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)
