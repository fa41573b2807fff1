"""The client: one HTTP session to the API server with TLS, credentials, time limits and retries.

The official client reads the kubeconfig or the pod's service account and prepares TLS. Requests go straight to an
aiohttp session: the official API classes cost more CPU per request than the whole rest of a reconcile.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from typing import Any, Literal

import aiohttp
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from pydantic_core import from_json, to_json

from tunesmith_operator import __name__ as _package
from tunesmith_operator.engine.kube.api_errors import ApiError, ApiUnreachableError
from tunesmith_operator.engine.metrics import ApiRequests

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON = "application/json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

REQUEST_SECONDS = 15.0
ATTEMPTS = 6
_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 5.0
_LONGEST_ASKED_WAIT_SECONDS = 30.0


class KubeClient:
    """Sends requests to the API server. Create it with `connect`; close it with `close`."""

    def __init__(self, configuration: Configuration, requests: ApiRequests, connections: int) -> None:
        self._configuration = configuration
        self._requests = requests
        self._session = self._new_session([], connections)
        self.server: str = configuration.host.rstrip("/")

    @classmethod
    async def connect(cls, requests: ApiRequests, connections: int = 32) -> KubeClient:
        """Return a client of the cluster whose pod this is, or that KUBECONFIG (or ~/.kube/config) names.

        Args:
            requests: Where requests are counted.
            connections: Connections that are open at the same time.

        Raises:
            kubernetes.aio.config.ConfigException: Neither exists, or the configuration is not valid.
        """
        configuration = Configuration()
        await _load(configuration)
        return cls(configuration, requests, connections)

    def new_session(self, trace: aiohttp.TraceConfig) -> aiohttp.ClientSession:
        """Return a session for callers that send their own requests, with this client's TLS, credentials and counting.

        Args:
            trace: An additional trace of its requests.
        """
        own = self._requests.trace()
        own.on_request_start.append(self._authorize)
        return self._new_session([own, trace], connections=0)

    def _new_session(self, traces: list[aiohttp.TraceConfig], connections: int) -> aiohttp.ClientSession:
        has_proxy = any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy"))
        # Looking for a proxy and a netrc file in the environment costs 0.1 ms a request, and compressing a list costs
        # the API server more than sending it.
        headers = {"User-Agent": _package, "Accept-Encoding": "identity"}
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=RESTClientObject(self._configuration).ssl_context),
            trace_configs=traces,
            trust_env=has_proxy,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def renew_credentials(self) -> None:
        """Read the kubeconfig or service account again, because the server no longer accepts the token."""
        await _load(self._configuration)

    async def request(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        retry_conflict: bool = False,
        attempts: int = ATTEMPTS,
        seconds: float = REQUEST_SECONDS,
    ) -> dict[str, Any]:
        """Return the API server's answer. Transient errors are retried with exponential backoff.

        Args:
            method: The HTTP method.
            path: Path at the server.
            query: Query parameters.
            body: The request body, sent as JSON.
            content_type: Media type of the body.
            accept: Media type of the answer.
            retry_conflict: Whether "the object has been modified" is retried too.
            attempts: Maximum number of attempts.
            seconds: Time limit of one attempt.

        Raises:
            ApiError: The server refused it.
            ApiUnreachableError: The server did not answer any attempt.
        """
        data = to_json(body) if body is not None else None
        headers = {"Accept": accept}
        if data is not None:
            headers["Content-Type"] = content_type
        renewed = False
        for attempt in range(1, attempts + 1):
            try:
                return await self._once(method, path, query, data, headers, seconds)
            except ApiError as error:
                if error.status == 401 and not renewed:
                    renewed = True
                    await self.renew_credentials()
                    continue
                again = error.is_transient or (retry_conflict and error.is_conflict)
                if not again or attempt == attempts:
                    raise
                wait = backoff(attempt)
                if error.retry_after is not None:
                    wait = max(wait, min(error.retry_after, _LONGEST_ASKED_WAIT_SECONDS))
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if attempt == attempts:
                    raise ApiUnreachableError(f"{method} {path}: {error!r}") from error
                wait = backoff(attempt)
            await asyncio.sleep(wait)
        raise ApiUnreachableError(f"{method} {path}: no attempt was left")

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        data: bytes | None,
        headers: dict[str, str],
        seconds: float,
    ) -> dict[str, Any]:
        if (token := await self._token()) is not None:
            headers["Authorization"] = token
        code = "none"
        try:
            async with self._session.request(
                method,
                self.server + path,
                params=query,
                data=data,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=seconds),
                server_hostname=self._configuration.tls_server_name or None,
                proxy=self._configuration.proxy or None,
            ) as response:
                content = await response.read()
                code = str(response.status)
        finally:
            self._requests.count(method, path, code)
        if response.status >= 400:
            refusal = ApiError.from_answer(response.status, response.headers, content)
            if refusal.is_denied:
                self._requests.deny(method, path)
            raise refusal
        answer: dict[str, Any] = from_json(content)
        return answer

    async def _token(self) -> str | None:
        """Return the Authorization header; a pod's token is read again from its file every minute."""
        token: str | None = await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return token

    async def _authorize(self, _session: object, _context: object, params: aiohttp.TraceRequestStartParams) -> None:
        if (token := await self._token()) is not None:
            params.headers["Authorization"] = token


def backoff(attempt: int, first: float = _FIRST_WAIT_SECONDS, longest: float = _LONGEST_WAIT_SECONDS) -> float:
    """Return the seconds to wait after the failed attempt of this number (from 1): growing, with jitter."""
    ceiling: float = min(longest, first * 2.0 ** min(attempt - 1, 32))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - to spread requests, not for secrecy


async def _load(configuration: Configuration) -> None:
    """Fill a configuration from the service account of this pod, or else from the kubeconfig.

    KUBECONFIG comes first: it is set on purpose.
    """
    if "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
        try:
            load_incluster_config(client_configuration=configuration)
            return
        except ConfigException:
            if not os.path.exists(os.path.expanduser("~/.kube/config")):
                raise
    await load_kube_config(
        config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration, persist_config=False
    )
