"""The HTTP endpoint: Kubeflow Trainer's status path, a bearer token, and answers that name the problem."""

from __future__ import annotations

import json
import logging

from aiohttp import web

from tunesmith_api.contract import PROGRESS_PATH
from tunesmith_operator.engine.kube.api_errors import ApiError, ApiUnreachableError
from tunesmith_operator.engine.kube.resources import FINE_TUNE_JOB, POD
from tunesmith_operator.engine.labels import OWNER_KIND, OWNER_NAME, OWNER_UID, STAGE
from tunesmith_operator.engine.metrics import Metrics
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.engine.watch.store import ObjectStore
from tunesmith_operator.progress.report import ReportError, progress_of
from tunesmith_operator.progress.throttle import ProgressWriter
from tunesmith_operator.progress.tokens import TokenReviewer

_log = logging.getLogger(__name__)
_LARGEST_BODY = 64 * 1024


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ProgressHandler:
    """Accepts reports of pods about their own job.

    Args:
        store: The watched objects.
        reviewer: Finds the pod of a token.
        writer: Writes progress.
        metrics: Counts reports.
    """

    def __init__(self, store: ObjectStore, reviewer: TokenReviewer, writer: ProgressWriter, metrics: Metrics) -> None:
        self._store = store
        self._reviewer = reviewer
        self._writer = writer
        self._metrics = metrics

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.router.add_post(PROGRESS_PATH, self._report)
        return app

    async def _report(self, request: web.Request) -> web.Response:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        status, answer = 200, {"status": "Success"}
        try:
            job, pod = await self._authorize(request, namespace, name)
            stage = (pod["metadata"].get("labels") or {}).get(STAGE)
            if not self._writer.submit(job, stage, progress_of(await _json(request))):
                answer["message"] = "the job has ended; the report is ignored"
        except ReportError as error:
            status, answer = 400, {"status": "Failure", "message": str(error)}
        except _RefusedError as error:
            status, answer = error.status, {"status": "Failure", "message": str(error)}
        except (ApiError, ApiUnreachableError) as error:
            _log.warning("a token could not be reviewed: %s", error)
            status, answer = 503, {"status": "Failure", "message": "the token cannot be checked at the moment"}
        self._metrics.progress_reports.labels(str(status)).inc()
        return web.json_response(answer, status=status)

    async def _authorize(self, request: web.Request, namespace: str, name: str) -> tuple[KubeObject, KubeObject]:
        """Return the job and the reporting pod."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _RefusedError(401, "a bearer token is needed")
        caller = await self._reviewer.caller(token.strip())
        if caller is None:
            raise _RefusedError(401, "the token is not a pod's token for the audience tunesmith.dev, or has expired")
        job = self._store.get(FINE_TUNE_JOB.kind, namespace, name)
        pod = self._store.get(POD.kind, caller.namespace, caller.pod)
        labels = ((pod or {}).get("metadata") or {}).get("labels") or {}
        is_ours = (
            caller.namespace == namespace
            and job is not None
            and pod is not None
            and pod["metadata"]["uid"] == caller.pod_uid
            and labels.get(OWNER_KIND) == FINE_TUNE_JOB.kind
            and labels.get(OWNER_NAME) == name
            and labels.get(OWNER_UID) == job["metadata"]["uid"]
        )
        if not is_ours or job is None or pod is None:
            # The same message whether the job exists or not, so that strangers learn nothing.
            raise _RefusedError(
                403, f"pod {caller.namespace}/{caller.pod} is not one of FineTuneJob {namespace}/{name}"
            )
        return job, pod


async def _json(request: web.Request) -> object:
    try:
        return json.loads(await request.read())
    except web.HTTPRequestEntityTooLarge:
        raise _RefusedError(413, f"a report has at most {_LARGEST_BODY} bytes") from None
    except ValueError as error:
        raise ReportError(f"the body is not JSON: {error}") from None
