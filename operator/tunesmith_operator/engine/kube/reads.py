"""Reads of the few objects that are not watched."""

from __future__ import annotations

from tunesmith_operator.engine.event_fields import last_seen
from tunesmith_operator.engine.kube.api_errors import ApiError
from tunesmith_operator.engine.kube.client import METADATA_ONLY, KubeClient
from tunesmith_operator.engine.kube.resources import CONFIG_MAP, EVENT, SECRET, resource_of
from tunesmith_operator.engine.reconciler import KubeObject

_NOT_THERE = (403, 404)


class ApiReader:
    """Reads straight from the API server."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def read(self, kind: str, namespace: str, name: str) -> KubeObject | None:
        """Return an object (without a Secret's or ConfigMap's data), or None when it is absent or may not be read.

        Raises:
            KeyError: The operator does not know the kind.
            ApiError: Refused for another reason.
            ApiUnreachableError: The API server did not answer.
        """
        resource = resource_of(kind)
        # Only the existence of these two matters: their contents never reach the operator.
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

    async def own_config_map(self, namespace: str, name: str) -> KubeObject | None:
        """Return a ConfigMap that the operator itself has made, with its data; None when it is absent.

        Raises:
            ApiError: Refused for a reason other than 403 and 404.
            ApiUnreachableError: The API server did not answer.
        """
        try:
            return await self._client.request("GET", CONFIG_MAP.path(namespace, name))
        except ApiError as error:
            if error.status in _NOT_THERE:
                return None
            raise

    async def pod_events(self, namespace: str, pod: str) -> list[KubeObject]:
        """Return the newest events about a pod, oldest first; see `events`."""
        return await self.events("Pod", namespace, pod)

    async def events(self, kind: str, namespace: str, name: str) -> list[KubeObject]:
        """Return the newest events about an object, oldest first.

        Raises:
            ApiError: Refused for a reason other than 403 and 404, which both count as no events.
            ApiUnreachableError: The API server did not answer.
        """
        query = {"fieldSelector": f"regarding.kind={kind},regarding.name={name}", "limit": "100"}
        try:
            answer = await self._client.request("GET", EVENT.path(namespace), query=query)
        except ApiError as error:
            if error.status in _NOT_THERE:
                return []
            raise
        events: list[KubeObject] = answer.get("items") or []
        return sorted(events, key=last_seen)
