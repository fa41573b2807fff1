"""Requests to the API server. Its errors are raised as BackendError."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tunesmith_backend.interface.errors import BackendError, ErrorKind

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
_SECONDS = 30.0
_WATCH_SECONDS = 300
_CONNECTIONS = 1000  # each watch holds one


class VersionExpiredError(BackendError):
    """410 Gone: the API server no longer has the changes since the resource version of a watch."""


class ClusterClient:
    """Sends requests with a `kubernetes.aio.client.ApiClient`, which `close` closes.

    Attributes:
        on_response: Called with the method and the status of each response.
    """

    def __init__(self, client: Any) -> None:  # noqa: ANN401 - the library has no types
        self._client = client
        self.on_response: Callable[[str, int], None] = lambda method, status: None

    @classmethod
    async def connect(cls, kubeconfig: str | None = None, context: str | None = None) -> ClusterClient:
        """Return a client of the cluster of a kubeconfig; in a pod without one, of the pod's own cluster.

        Args:
            kubeconfig: Path of the kubeconfig; by default the value of KUBECONFIG, or ~/.kube/config.
            context: The context to use; by default the current one.

        Raises:
            BackendError: There is no valid kubeconfig.
        """
        from kubernetes.aio import client, config

        try:
            in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ
            if kubeconfig is None and context is None and in_pod:
                configuration = client.Configuration()
                config.load_incluster_config(configuration)
                configuration.connection_pool_maxsize = _CONNECTIONS
                return cls(client.ApiClient(configuration))
            return cls(await config.new_client_from_config(kubeconfig, context, persist_config=False))
        except config.ConfigException as error:
            raise BackendError(f"there is no cluster to connect to ({error}); set KUBECONFIG") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """Send a request, and return the object in the response.

        Raises:
            BackendError: The API server refuses, or cannot be reached.
        """
        from aiohttp import ClientTimeout

        response = await self._send(method, path, query or {}, body, content_type, ClientTimeout(total=_SECONDS))
        with _translate_errors():
            result: dict[str, Any] = json.loads(await response.read())
        return result

    async def lines(self, path: str, query: Mapping[str, str], silence: float | None = None) -> AsyncIterator[str]:
        """Yield the lines of a response as they arrive.

        Args:
            path: The path.
            query: The query.
            silence: Seconds without data after which the connection counts as lost; by default it never does.

        Raises:
            BackendError: The API server refuses, cannot be reached, or the connection is lost.
        """
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=_SECONDS, sock_read=silence)
        response = await self._send("GET", path, query, None, "application/json", timeout)
        rest = b""
        try:
            with _translate_errors():
                # Not by lines: aiohttp refuses those that are longer than its buffer.
                async for chunk in response.response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield line.decode(errors="replace")
                if rest:
                    yield rest.decode(errors="replace")
        finally:
            response.response.close()

    async def changes(self, path: str, query: Mapping[str, str]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield the events of a watch, as `(type, object)`. Ends after some minutes.

        Raises:
            VersionExpiredError: The resource version of the query is too old.
            BackendError: The API server refuses, or cannot be reached.
        """
        options = {**query, "watch": "true", "timeoutSeconds": str(_WATCH_SECONDS)}
        async for line in self.lines(path, options, _WATCH_SECONDS + _SECONDS):
            try:
                event = json.loads(line)
            except ValueError:
                raise BackendError("the watch was cut off; watch again", ErrorKind.RETRY) from None
            if event["type"] == "ERROR":
                raise _refused(int(event["object"].get("code", 500)), json.dumps(event["object"]))
            yield event["type"], event["object"]

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None,
        content_type: str,
        timeout: Any,  # noqa: ANN401 - an aiohttp.ClientTimeout; aiohttp is imported when it is needed
    ) -> Any:  # noqa: ANN401 - the library has no types
        headers = {"Accept": "application/json", "Content-Type": content_type}
        request = await self._client.param_serialize(
            method, path, query_params=list(query.items()), header_params=headers, body=body,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        with _translate_errors():
            response = await self._client.call_api(*request, _request_timeout=timeout)
            self.on_response(method, response.status)
            if response.status >= 300:
                raise _refused(response.status, (await response.read()).decode(errors="replace"))
        return response


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Raise errors of the connection as BackendError."""
    from aiohttp import ClientError

    try:
        yield
    except (ClientError, TimeoutError, ConnectionError) as error:
        what = str(error) or type(error).__name__
        message = f"the API server cannot be reached ({what}); check the cluster and the kubeconfig"
        raise BackendError(message, ErrorKind.RETRY) from None


def _refused(status: int, text: str) -> BackendError:
    """Return the error for an error response, with a remedy."""
    if status == 410:
        return VersionExpiredError(text, ErrorKind.RETRY)
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {}
    message = str(answer.get("message") or text.strip())
    if status == 404:
        remedy = "check the name and namespace, and that Tunesmith's CRDs are installed"
        return BackendError(f"{message}; {remedy}", ErrorKind.NOT_FOUND)
    causes = (answer.get("details") or {}).get("causes") or []
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return BackendError(f"{message}; it can be made again when all of it is gone", ErrorKind.RETRY)
    if status == 403 and "status unknown for quota" in message:
        return BackendError(f"{message}; the quota was made a moment ago", ErrorKind.RETRY)
    if status in (401, 403):
        remedy = "ask for the rights, or use another context of the kubeconfig"
        return BackendError(f"{message}; {remedy}", ErrorKind.FAILED)
    if status in (409, 429) or status >= 500:
        return BackendError(f"{message}; try again later", ErrorKind.RETRY)
    return BackendError(message)
