"""Posts Events about objects, for `kubectl describe` and collectors."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from tunesmith_operator.engine.kube.api_errors import ApiError, ApiUnreachableError
from tunesmith_operator.engine.kube.client import KubeClient
from tunesmith_operator.engine.kube.resources import EVENT
from tunesmith_operator.engine.reconciler import EventSpec, KubeObject

_log = logging.getLogger(__name__)
_LONGEST_NOTE = 1024
_REPORTER = "tunesmith.dev/operator"


class EventPoster:
    """Posts Events. One that cannot be posted is dropped: the status says the same.

    Args:
        client: The client.
        instance: Name of this replica.
    """

    def __init__(self, client: KubeClient, instance: str) -> None:
        self._client = client
        self._instance = instance[:128]

    async def post(self, obj: KubeObject, note: EventSpec) -> None:
        """Post an event about an object."""
        metadata = obj["metadata"]
        event = {
            "apiVersion": EVENT.api_version,
            "kind": "Event",
            "metadata": {
                "name": f"{metadata['name'][:230]}.{time.time_ns():x}",
                "namespace": metadata["namespace"],
            },
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": _REPORTER,
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "reason": note.reason,
            "note": note.message[:_LONGEST_NOTE],
            "type": note.type,
            "regarding": {
                "apiVersion": obj["apiVersion"],
                "kind": obj["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
        }
        try:
            await self._client.request("POST", EVENT.path(metadata["namespace"]), body=event, attempts=2)
        except (ApiError, ApiUnreachableError) as error:
            _log.debug("an event could not be posted: %s", error)
