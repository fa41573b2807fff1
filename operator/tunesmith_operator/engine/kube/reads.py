"""Reads of the few facts that are not watched."""

from __future__ import annotations

from tunesmith_operator.engine.kube.api_errors import ApiError
from tunesmith_operator.engine.kube.client import METADATA_ONLY, KubeClient
from tunesmith_operator.engine.kube.resources import CONFIG_MAP, EVENT, SECRET, resource_of
from tunesmith_operator.engine.reconciler import Object

_NOT_THERE = (403, 404)


class ApiReader:
    """Reads straight from the API server."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def read(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return an object (without a Secret's or ConfigMap's data), or None when it is absent or may not be read.

        Raises:
            KeyError: The operator does not know the kind.
            ApiError: Any other refusal.
            ApiUnreachableError: No answer.
        """
        resource = resource_of(kind)
        # Of these two only their being there is of interest: what they hold never reaches the operator.
        accept = METADATA_ONLY if resource in (SECRET, CONFIG_MAP) else "application/json"
        try:
            obj = await self._client.request("GET", resource.path(namespace, name), accept=accept)
        except ApiError as error:
            if error.status in _NOT_THERE:
                return None
            raise
        obj |= {"kind": kind, "apiVersion": resource.api_version}
        obj["metadata"].pop("managedFields", None)
        return obj

    async def pod_events(self, namespace: str, pod: str) -> list[Object]:
        """Return the newest events about a pod, oldest first; see `events`."""
        return await self.events("Pod", namespace, pod)

    async def events(self, kind: str, namespace: str, name: str) -> list[Object]:
        """Return the newest events about an object, oldest first.

        Raises:
            ApiError: A refusal other than "may not be read" and "not there", which both are no events.
            ApiUnreachableError: No answer.
        """
        query = {"fieldSelector": f"regarding.kind={kind},regarding.name={name}", "limit": "100"}
        try:
            answer = await self._client.request("GET", EVENT.path(namespace), query=query)
        except ApiError as error:
            if error.status in _NOT_THERE:
                return []
            raise
        events: list[Object] = answer.get("items") or []
        return sorted(events, key=_time)


def _time(event: Object) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("deprecatedLastTimestamp") or event.get("eventTime") or "")
