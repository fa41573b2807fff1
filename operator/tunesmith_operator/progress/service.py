"""The progress server of one replica: its certificate, its port, and the authority that jobs trust."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import tempfile

from aiohttp import web

from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.kube.api_errors import ApiError, ApiUnreachableError
from tunesmith_operator.engine.kube.client import KubeClient, backoff
from tunesmith_operator.engine.kube.resources import FINE_TUNE_JOB
from tunesmith_operator.engine.metrics import Metrics
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.engine.watch.store import ObjectStore
from tunesmith_operator.progress.certificates import Certificates
from tunesmith_operator.progress.namespaces import TrustingNamespaces
from tunesmith_operator.progress.secret import server_names, shared_certificates
from tunesmith_operator.progress.server import ProgressHandler
from tunesmith_operator.progress.throttle import ProgressWriter
from tunesmith_operator.progress.tokens import TokenReviewer

_log = logging.getLogger(__name__)
_RENEWAL_SECONDS = 3600.0
_FIRST_WAIT_SECONDS = 5.0


class ProgressService:
    """Receives reports on every replica, leader or not: a Service spreads the pods' reports over all of them.

    Args:
        settings: Port, URL and Secret.
        client: The client.
        store: The watched objects.
        metrics: Counts reports.
    """

    def __init__(self, settings: OperatorSettings, client: KubeClient, store: ObjectStore, metrics: Metrics) -> None:
        self._settings = settings
        self._client = client
        self._is_on = bool(settings.progress_url) and settings.progress_port > 0
        self._names = server_names(settings.progress_url, settings.cluster_domain)
        self._writer = ProgressWriter(client, store)
        self._handler = ProgressHandler(store, TokenReviewer(client), self._writer, metrics)
        self._certificates: Certificates | None = None
        self._has_certificates = asyncio.Event()
        self._namespaces = TrustingNamespaces(client)

    async def run(self) -> None:
        """Serve until this is cancelled. API errors do not stop the operator: reports are a convenience."""
        if not self._is_on:
            return
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        await self._renew(context)
        runner = web.AppRunner(self._handler.application(), access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, port=self._settings.progress_port, ssl_context=context).start()
            _log.info("progress is received on port %d", self._settings.progress_port)
            while True:
                await asyncio.sleep(_RENEWAL_SECONDS)
                await self._renew(context)
        finally:
            await runner.cleanup()
            await self._writer.close()

    async def before_reconcile(self, obj: KubeObject) -> None:
        """Write the authority by which a job's pods trust this server into the job's namespace."""
        if not self._is_on or obj["kind"] != FINE_TUNE_JOB.kind or "deletionTimestamp" in obj["metadata"]:
            return
        if self._certificates is None:
            # Only jobs right after the start wait; if the Secret cannot be read, they go on without progress.
            try:
                async with asyncio.timeout(_FIRST_WAIT_SECONDS):
                    await self._has_certificates.wait()
            except TimeoutError:
                self._has_certificates.set()
        if self._certificates is None:
            return
        namespace = obj["metadata"]["namespace"]
        try:
            await self._namespaces.ensure(namespace, self._certificates.authority)
        except (ApiError, ApiUnreachableError) as error:
            _log.warning("namespace %s: its pods cannot report progress: %s", namespace, error)

    async def _renew(self, context: ssl.SSLContext) -> None:
        """Load the replicas' certificate, renewed if it is about to expire, for new connections."""
        attempt = 0
        while True:
            try:
                certificates = await shared_certificates(
                    self._client, self._settings.pod_namespace, self._settings.progress_secret, self._names
                )
                break
            except (ApiError, ApiUnreachableError) as error:
                attempt += 1
                if self._certificates is not None:
                    return  # The current certificate is valid for months.
                if attempt == 1:
                    _log.warning("no certificate for the progress server yet, so no progress: %s", error)
                await asyncio.sleep(backoff(attempt, 1.0, 60.0))
        if certificates != self._certificates:
            await asyncio.to_thread(_load, context, certificates)
            self._certificates = certificates
        self._has_certificates.set()


def _load(context: ssl.SSLContext, certificates: Certificates) -> None:
    """Load a certificate into a context; `ssl` only takes files."""
    with tempfile.NamedTemporaryFile(prefix="tunesmith-") as file:
        os.chmod(file.name, 0o600)
        file.write(certificates.server + certificates.server_key)
        file.flush()
        context.load_cert_chain(file.name)
