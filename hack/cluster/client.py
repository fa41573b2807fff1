"""A client for a cluster: objects as dictionaries, and waiting by watch.

Unlike the modules that start a cluster it needs the virtual environment: `kubernetes`, `urllib3` and PyYAML.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import urllib3
import yaml

from cluster import lifecycle
from cluster.errors import CannotRunError
from cluster.requests import ApiError, Http, Object

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

MANAGER = "test"
CRDS = Path(__file__).parents[2] / "crds"


@dataclass(frozen=True)
class Cluster:
    """One cluster.

    Attributes:
        kubeconfig: The path of its kubeconfig.
        kubectl: The path of a kubectl of its version.
        context: The context to use of the kubeconfig; None for its current one.
        name: The embedded cluster's name; None for somebody's own cluster.
        runs_pods: Whether it has nodes.
    """

    kubeconfig: Path
    kubectl: str
    context: str | None = None
    name: str | None = None
    runs_pods: bool = False

    @cached_property
    def http(self) -> Http:
        """The client for raw requests."""
        return Http(self.kubeconfig, self.context)

    @property
    def environment(self) -> dict[str, str]:
        """The environment for programs that use this cluster."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def client(self) -> ApiClient:
        """Return a new `kubernetes.client.ApiClient`."""
        from kubernetes import config

        return config.new_client_from_config(str(self.kubeconfig), self.context)

    @asynccontextmanager
    async def aio_client(self) -> AsyncIterator[Any]:
        """Give a new `kubernetes.aio.client.ApiClient`, closed at the end."""
        from kubernetes.aio import config

        async with await config.new_client_from_config(str(self.kubeconfig), self.context) as client:
            yield client

    def run(self, *arguments: str, text: str | None = None, check: bool = True, timeout: float = 300) -> str:
        """Run kubectl and return what it printed, standard error included.

        Raises:
            AssertionError: It failed, and `check` is set.
        """
        context = [f"--context={self.context}"] if self.context else []
        result = subprocess.run(
            [self.kubectl, *context, *arguments], env=self.environment, input=text, text=True, timeout=timeout,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=None if text is not None else subprocess.DEVNULL,
        )  # fmt: skip
        if check and result.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}:\n{result.stdout}")
        return result.stdout

    def apply(self, objects: Object | Iterable[Object] | str | Path, namespace: str | None = None) -> list[Object]:
        """Apply objects, YAML text or a YAML file on the server (field manager `test`), and return the results.

        Raises:
            ApiError: The API server refuses one; those before it are applied.
        """
        results = []
        for obj in _objects(objects):
            meta = obj["metadata"]
            resource = self.http.resource(obj["kind"])
            path = resource.path(meta.get("namespace") or namespace, meta["name"])
            body = json.dumps(obj).encode()
            query = {"fieldManager": MANAGER, "force": "true"}
            results.append(self.http.request("PATCH", path, body, "application/apply-patch+yaml", **query))
        return results

    def create(self, obj: Object, namespace: str | None = None) -> Object:
        """Create an object (`metadata.generateName` will do) and return it."""
        path = self.http.resource(obj["kind"]).path(obj["metadata"].get("namespace") or namespace)
        return self.http.request("POST", path, obj)

    def find(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """Return an object, or None if it does not exist."""
        try:
            return self.get(kind, name, namespace)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object:
        """Return an object."""
        return self.http.request("GET", self.http.resource(kind).path(namespace, name))

    def list(self, kind: str, namespace: str | None = None, labels: str = "", fields: str = "") -> list[Object]:
        """Return the objects of a kind, filtered by selectors."""
        return self._list(kind, namespace, labels, fields)["items"]

    def patch(self, kind: str, name: str, body: Object, namespace: str | None = None, subresource: str = "") -> Object:
        """Merge `body` into an object (RFC 7386), or into its status or another subresource, and return it."""
        path = self.http.resource(kind).path(namespace, name) + (f"/{subresource}" if subresource else "")
        return self.http.request("PATCH", path, body, "application/merge-patch+json")

    def delete(self, kind: str, name: str, namespace: str | None = None, grace: int | None = None) -> None:
        """Delete an object if it exists, and its dependents in the background."""
        query = {"propagationPolicy": "Background", **({} if grace is None else {"gracePeriodSeconds": grace})}
        try:
            self.http.request("DELETE", self.http.resource(kind).path(namespace, name), **query)
        except ApiError as error:
            if error.status != 404:
                raise

    def wait(
        self, kind: str, name: str, until: Callable[[Object], Any], namespace: str | None = None, timeout: float = 300
    ) -> Object:
        """Watch an object until `until` is true of it, and return it; it need not exist yet.

        Raises:
            AssertionError: It was not within `timeout` seconds; the message has the object's last state.
        """
        chosen = lambda objects: bool(objects) and until(objects[0])  # noqa: E731
        return self.wait_all(kind, chosen, namespace, fields=f"metadata.name={name}", timeout=timeout)[0]

    def wait_gone(self, kind: str, name: str, namespace: str | None = None, timeout: float = 300) -> None:
        """Watch until an object does not exist."""
        fields = f"metadata.name={name}"
        self.wait_all(kind, lambda objects: not objects, namespace, fields=fields, timeout=timeout)

    def wait_all(
        self,
        kind: str,
        until: Callable[[list[Object]], Any],
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        timeout: float = 300,
    ) -> list[Object]:
        """Watch the objects of a kind until `until` is true of their list, and return them sorted by name.

        Waits for an API server that is down meanwhile.

        Raises:
            AssertionError: It was not within `timeout` seconds; the message has their last states.
        """
        deadline = time.monotonic() + timeout
        seen: dict[str, Object] = {}
        path = self.http.resource(kind).path(namespace)
        query = {key: value for key, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        while (left := deadline - time.monotonic()) > 0:
            try:
                listed = self._list(kind, namespace, labels, fields)
                seen = {obj["metadata"]["uid"]: obj for obj in listed["items"]}
                if until(_by_name(seen)):
                    return _by_name(seen)
                version = listed["metadata"]["resourceVersion"]
                for event in self.http.watch(path, left, resourceVersion=version, **query):
                    seen[event["object"]["metadata"]["uid"]] = event["object"]
                    if event["type"] == "DELETED":
                        del seen[event["object"]["metadata"]["uid"]]
                    if until(_by_name(seen)):
                        return _by_name(seen)
                    if time.monotonic() > deadline:
                        break
            except (urllib3.exceptions.HTTPError, ApiError) as error:
                if isinstance(error, ApiError) and error.status not in (410, 429) and error.status < 500:
                    raise
                time.sleep(0.1)
        last = [{key: obj.get(key) for key in ("metadata", "spec", "status")} for obj in _by_name(seen)]
        for obj in last:
            obj["metadata"].pop("managedFields", None)
        text = json.dumps(last, indent=1)[:6000]
        raise AssertionError(
            f"Waited {timeout:g} s for {kind} {fields or labels} in {namespace}, in vain. Last:\n{text}"
        )

    def stop_api_server(self) -> None:
        """Stop the API server. Only for a cluster that no other test is using."""
        lifecycle.stop_process(self._embedded(), "kube-apiserver")

    def start_api_server(self) -> None:
        """Start the API server again and wait until it is ready."""
        lifecycle.start_process(self._embedded(), "kube-apiserver")

    def load_image(self, archive: Path) -> None:
        """Import an image archive (docker-archive or oci-archive) into the node."""
        from cluster import images

        images.load(self._embedded(), archive)

    def _embedded(self) -> str:
        if self.name is None:
            raise CannotRunError("This is somebody's own cluster, whose processes and images are not ours to touch.")
        return self.name

    def _list(self, kind: str, namespace: str | None, labels: str, fields: str) -> Object:
        query = {key: value for key, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        resource = self.http.resource(kind)
        listed = self.http.request("GET", resource.path(namespace), **query)
        for obj in listed["items"]:  # a list omits them
            obj.update(kind=kind, apiVersion=resource.version)
        return listed


def condition(obj: Object, name: str) -> Object:
    """Return a condition of an object's status, or an empty one."""
    conditions = obj.get("status", {}).get("conditions") or []
    return next((entry for entry in conditions if entry["type"] == name), {})


def _by_name(objects: dict[str, Object]) -> list[Object]:
    return sorted(objects.values(), key=lambda obj: obj["metadata"]["name"])


def _objects(source: Object | Iterable[Object] | str | Path) -> list[Object]:
    if isinstance(source, Path):
        source = source.read_text()
    if isinstance(source, str):
        return [obj for obj in yaml.safe_load_all(source) if obj]
    return [source] if isinstance(source, dict) else list(source)
