"""Namespaces whose pods have the authority that they trust the progress server by."""

from __future__ import annotations

import time
from collections.abc import Callable

from tunesmith_operator.engine.kube.client import KubeClient
from tunesmith_operator.progress.secret import ensure_config_map

# A namespace can be deleted and made anew between two jobs, so what was written there is not believed for long.
BELIEVED_SECONDS = 10.0


class TrustingNamespaces:
    """Writes the authority's ConfigMap into namespaces, and remembers for a while where it is.

    Args:
        client: The client.
        clock: Seconds that only go forward.
    """

    def __init__(self, client: KubeClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[str, tuple[bytes, float]] = {}

    async def ensure(self, namespace: str, authority: bytes) -> None:
        """Let a namespace have the authority's certificate, where it has not.

        After a failure it is tried again only when the memory ends, so that a namespace in which it cannot be written
        does not hold up each of its jobs.

        Raises:
            ApiError: It may not be read or written.
            ApiUnreachableError: The API server did not answer.
        """
        known = self._known.get(namespace)
        if known and known[0] == authority and self._clock() - known[1] < BELIEVED_SECONDS:
            return
        self._known[namespace] = (authority, self._clock())
        await ensure_config_map(self._client, namespace, authority)
