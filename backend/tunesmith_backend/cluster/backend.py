"""The backend that stores objects in a Kubernetes cluster."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from tunesmith_api.manifests import Finding, LoadedFineTuneJob, LoadedInferenceWorkspace, Manifests
from tunesmith_api.objects import API_VERSION
from tunesmith_api.work_folder import Stage
from tunesmith_backend.cluster.client import APPLY, MERGE, ClusterClient, VersionExpiredError
from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.interface.protocol import DEFAULT_NAMESPACE, Kind, Object, ObjectRef, ref_of

FIELD_MANAGER = "tunesmith-cli"
_PLURALS: Mapping[Kind, str] = {"FineTuneJob": "finetunejobs", "InferenceWorkspace": "inferenceworkspaces"}
_OWNER_UID = "tunesmith.dev/owner-uid"
_STAGE = "tunesmith.dev/stage"


class ClusterBackend:
    """Stores objects in a cluster, whose operator runs them.

    Args:
        client: Sends the requests.
        manager: Field manager of what is applied.
        force: Whether fields that others have changed are taken back, as controllers do; otherwise that is refused.

    Attributes:
        client: Sends the requests.
    """

    def __init__(self, client: ClusterClient, manager: str = FIELD_MANAGER, *, force: bool = False) -> None:
        self.client = client
        self._options = {"fieldManager": manager}
        self._force = {"force": "true"} if force else {}

    async def validate(self, manifests: Manifests) -> list[Finding]:
        """Return what the API server would refuse, by a dry run."""
        findings = []
        for item in _objects(manifests):
            try:
                await self._apply(_path(ref_of(item)), _as_written(item), dryRun="All")
            except BackendError as error:
                if error.kind is not ErrorKind.INVALID:
                    raise
                findings.append(Finding(item.source.file, item.source.line, "", str(error), "write another value"))
        return findings

    async def apply(self, manifests: Manifests) -> list[ObjectRef]:
        """Apply the objects by server-side apply, ConfigMaps first; a dry run before that finds what is refused."""
        for item in _objects(manifests):
            await self._apply(_path(ref_of(item)), _as_written(item), dryRun="All")
        for (namespace, name), contents in manifests.config_maps.items():
            await self._apply(f"/api/v1/namespaces/{namespace}/configmaps/{name}", _config_map(name, contents))
        refs = []
        for item in _objects(manifests):
            refs.append(ref_of(item))
            await self._apply(_path(refs[-1]), _as_written(item))
        return refs

    async def get(self, ref: ObjectRef) -> Object:
        """Return an object."""
        return await self.client.request("GET", _path(ref))

    async def list(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        """Return the objects of a kind, sorted by namespace and name."""
        answer = await self.client.request("GET", _collection(kind, namespace))
        found: list[Object] = answer["items"]
        return sorted(found, key=lambda item: (item["metadata"]["namespace"], item["metadata"]["name"]))

    async def suspend(self, ref: ObjectRef, suspended: bool = True) -> Object:
        """Set or clear `spec.suspend` of a job."""
        if ref.kind != "FineTuneJob":
            raise BackendError(f"{ref} cannot be suspended; set spec.replicas to 0")
        body = {"spec": {"suspend": suspended}}
        return await self.client.request("PATCH", _path(ref), self._options, body, MERGE)

    async def delete(self, ref: ObjectRef) -> None:
        """Delete an object, and in the background its dependents."""
        await self.client.request("DELETE", _path(ref), {"propagationPolicy": "Background"})

    async def watch(self, ref: ObjectRef) -> AsyncIterator[Object]:
        """Yield an object now and whenever it changes.

        Raises:
            BackendError: There is no such object, or the connection is lost: watch again.
        """
        newest = await self.get(ref)
        yield newest
        uid, version = newest["metadata"]["uid"], newest["metadata"]["resourceVersion"]
        while True:
            query = {"fieldSelector": f"metadata.name={ref.name}", "resourceVersion": version}
            try:
                async for kind, changed in self.client.changes(_collection(ref.kind, ref.namespace), query):
                    if kind == "DELETED":
                        return
                    newest, version = changed, changed["metadata"]["resourceVersion"]
                    yield newest
            except VersionExpiredError:
                # The object's own version may be as old as before: only a list has a version that can be watched from.
                current, version = await self._list_one(ref)
                if current is None or current["metadata"]["uid"] != uid:
                    return
                if current["metadata"]["resourceVersion"] != newest["metadata"]["resourceVersion"]:
                    newest = current
                    yield newest

    async def logs(self, ref: ObjectRef, stage: Stage | None = None, *, follow: bool = False) -> AsyncIterator[str]:
        """Yield the lines of an object's pods, pod by pod, in the order of their creation."""
        owner = await self.get(ref)
        labels = f"{_OWNER_UID}={owner['metadata']['uid']}" + (f",{_STAGE}={stage.value}" if stage else "")
        path = f"/api/v1/namespaces/{ref.namespace}/pods"
        pods = await self.client.request("GET", path, {"labelSelector": labels})
        for pod in sorted(pods["items"], key=lambda item: str(item["metadata"]["creationTimestamp"])):
            if pod.get("status", {}).get("phase") == "Pending":
                continue  # It has printed nothing yet, and asking for its log is an error.
            query = {"follow": "true"} if follow else {}
            async for line in self.client.lines(f"{path}/{pod['metadata']['name']}/log", query):
                yield line

    async def endpoint(self, ref: ObjectRef) -> str | None:
        """Return `status.endpoint`."""
        found = (await self.get(ref)).get("status", {}).get("endpoint")
        return str(found) if found else None

    def folder(self, ref: ObjectRef) -> Path | None:
        """Return None: the folder is on a volume that pods have."""
        return None

    # What one machine has not, so that the protocol does not have it either.

    async def apply_object(self, path: str, body: Object) -> None:
        """Create or update any object, such as a namespace."""
        await self._apply(path, body)

    async def delete_object(self, path: str) -> None:
        """Delete any object; nothing happens if there is none."""
        try:
            await self.client.request("DELETE", path, {"propagationPolicy": "Background"})
        except BackendError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise

    async def may_create(self, kind: Kind, namespace: str) -> bool:
        """Return whether this client may create objects of a kind in a namespace."""
        asked = {"namespace": namespace, "verb": "create", "group": API_VERSION.split("/")[0]}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {**asked, "resource": _PLURALS[kind]}},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool((await self.client.request("POST", path, body=review))["status"]["allowed"])

    async def changed(self, kind: Kind, namespace: str) -> AsyncIterator[ObjectRef]:
        """Yield the objects of a namespace, then each that is created, changed or deleted; again after a gap.

        Raises:
            BackendError: The connection is lost, or the API server refuses: watch again.
        """
        path = _collection(kind, namespace)
        while True:
            listed = await self.client.request("GET", path)
            for item in listed["items"]:
                yield ObjectRef(kind, item["metadata"]["name"], namespace)
            version = listed["metadata"]["resourceVersion"]
            try:
                while True:
                    async for _, item in self.client.changes(path, {"resourceVersion": version}):
                        version = item["metadata"]["resourceVersion"]
                        yield ObjectRef(kind, item["metadata"]["name"], namespace)
            except VersionExpiredError:
                continue

    async def close(self) -> None:
        """Close the connections. The objects keep running."""
        await self.client.close()

    async def _list_one(self, ref: ObjectRef) -> tuple[Object | None, str]:
        """Return an object, or None if there is none, and the resource version of the list."""
        query = {"fieldSelector": f"metadata.name={ref.name}"}
        found = await self.client.request("GET", _collection(ref.kind, ref.namespace), query)
        return next(iter(found["items"]), None), str(found["metadata"]["resourceVersion"])

    async def _apply(self, path: str, body: Object, **options: str) -> Object:
        return await self.client.request("PATCH", path, {**self._options, **self._force, **options}, body, APPLY)


def _objects(manifests: Manifests) -> tuple[LoadedFineTuneJob | LoadedInferenceWorkspace, ...]:
    return (*manifests.fine_tune_jobs, *manifests.inference_workspaces)


def _as_written(item: LoadedFineTuneJob | LoadedInferenceWorkspace) -> Object:
    """Return an object as its manifest has it, without defaults and without a status."""
    plain = item.document.plain()
    assert isinstance(plain, dict)  # noqa: S101 - only such documents are loaded
    return {key: value for key, value in plain.items() if key != "status"}


def _config_map(name: str, contents: Mapping[str, bytes]) -> Object:
    data: dict[str, str] = {}
    binary: dict[str, str] = {}
    for key, content in contents.items():
        try:
            data[key] = content.decode()
        except UnicodeDecodeError:
            binary[key] = base64.b64encode(content).decode()
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data, "binaryData": binary}


def _collection(kind: Kind, namespace: str | None) -> str:
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{API_VERSION}{scope}/{_PLURALS[kind]}"


def _path(ref: ObjectRef) -> str:
    return f"{_collection(ref.kind, ref.namespace or DEFAULT_NAMESPACE)}/{ref.name}"
