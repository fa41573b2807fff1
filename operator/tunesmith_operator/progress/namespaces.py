"""Distributes the certificate authority by which pods trust the progress server to their namespaces."""

from __future__ import annotations

import time
from collections.abc import Callable

from tunesmith_operator.engine.kube.client import KubeClient
from tunesmith_operator.progress.secret import ensure_config_map

# A namespace can be deleted and created again between two jobs, so a write is not trusted for long.
TRUSTED_SECONDS = 10.0


class TrustingNamespaces:
    """Writes the authority's ConfigMap into namespaces, and remembers for a while which ones have it.

    Args:
        client: The client.
        clock: Seconds that only go forward.
    """

    def __init__(self, client: KubeClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[str, tuple[bytes, float]] = {}

    async def ensure(self, namespace: str, authority: bytes) -> None:
        """Write the authority's certificate into a namespace, unless it is there.

        A failed attempt is remembered too, so that a namespace that cannot be written to does not delay each of its
        jobs.

        Raises:
            ApiError: It may not be read or written.
            ApiUnreachableError: The API server did not answer.
        """
        known = self._known.get(namespace)
        if known and known[0] == authority and self._clock() - known[1] < TRUSTED_SECONDS:
            return
        self._known[namespace] = (authority, self._clock())
        await ensure_config_map(self._client, namespace, authority)
