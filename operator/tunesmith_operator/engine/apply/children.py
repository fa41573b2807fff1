"""Writes children: keeps them by server-side apply, creates them once, deletes them."""

from __future__ import annotations

from collections.abc import Callable

from tunesmith_operator.engine.apply.difference import APPLIED, configuration_digest, contains, overlaid, with_digest
from tunesmith_operator.engine.apply.managed_fields import as_applied
from tunesmith_operator.engine.kube.api_errors import ApiError
from tunesmith_operator.engine.kube.client import APPLY, JSON, MERGE, METADATA_ONLY, KubeClient
from tunesmith_operator.engine.kube.resources import UNWATCHED, child_resource_of
from tunesmith_operator.engine.labels import FIELD_MANAGER, OWNER_UID
from tunesmith_operator.engine.reconciler import Annotation, KubeObject, ObjectRef
from tunesmith_operator.engine.watch.store import ObjectStore


class ForeignObjectError(Exception):
    """A child cannot be created: its name is taken by an object that has another owner."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name} exists and was not made for this object; delete or rename one of them")


class ChildWriter:
    """Writes children of objects. Every method returns whether anything was changed at the API server."""

    def __init__(
        self, client: KubeClient, store: ObjectStore, on_child: Callable[[KubeObject, KubeObject], None]
    ) -> None:
        self._client = client
        self._store = store
        self._on_child = on_child
        self._normalised: dict[str, tuple[str, str]] = {}

    async def ensure(self, owner: KubeObject, child: KubeObject) -> bool:
        """Apply a child if it differs from what is given.

        Raises:
            ForeignObjectError: The name is taken by an object that is not the owner's.
            ApiError: The API server refused it.
            ApiUnreachableError: It did not answer.
        """
        name, namespace = child["metadata"]["name"], owner["metadata"]["namespace"]
        observed = await self._observed(child["kind"], namespace, name)
        desired = with_digest(child)
        if observed is None:
            # Created, not applied: an apply would silently take over somebody else's object of this name.
            if (answer := await self._create(owner, desired)) is not None:
                self._remember(desired, answer)
            return True
        _check_owner(owner, observed)
        if "deletionTimestamp" in observed["metadata"] or self._is_kept(observed, desired):
            return False
        path = child_resource_of(child["kind"]).path(namespace, name)
        answer = await self._apply(path, desired, (observed["metadata"].get("annotations") or {}).get(APPLIED))
        self._put(answer)
        self._remember(desired, answer)
        return True

    async def create(self, owner: KubeObject, child: KubeObject) -> bool:
        """Create a child if it does not exist; the owner's existing child of that name is left unchanged.

        Raises:
            ForeignObjectError: The name is taken by an object that is not the owner's.
            ApiError: The API server refused it.
            ApiUnreachableError: It did not answer.
        """
        observed = self._store.get(child["kind"], owner["metadata"]["namespace"], child["metadata"]["name"])
        if observed is not None:
            _check_owner(owner, observed)
            return False
        # The rest of a Job would be a tenth of the cost of its creation at the API server, and the watch brings it.
        await self._create(owner, child, is_whole=False)
        return True

    async def delete(self, owner: KubeObject, ref: ObjectRef) -> bool:
        """Delete a child if it exists and is the owner's; its dependents are deleted in the background.

        Raises:
            ForeignObjectError: The object of this name is not the owner's.
            ApiError: The API server refused it.
            ApiUnreachableError: It did not answer.
        """
        observed = self._store.get(ref.kind, owner["metadata"]["namespace"], ref.name)
        if observed is None or "deletionTimestamp" in observed["metadata"]:
            return False
        _check_owner(owner, observed)
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": observed["metadata"]["uid"]},
        }
        path = child_resource_of(ref.kind).path(owner["metadata"]["namespace"], ref.name)
        try:
            answer = await self._client.request("DELETE", path, body=body)
        except ApiError as error:
            if error.status != 404 and error.reason != "Conflict":
                raise
            self._store.remove(observed)
            return True
        # The answer is the object if it still waits for a finalizer or for its processes to end, else a Status.
        if answer.get("kind") == ref.kind and "deletionTimestamp" in answer["metadata"]:
            self._store.put(answer)
        else:
            self._store.remove(observed)
        return True

    async def annotate(self, owner: KubeObject, annotation: Annotation) -> bool:
        """Set an annotation of a watched child, if the child exists and has another value there.

        Raises:
            ForeignObjectError: The object of this name is not the owner's.
            ApiError: The API server refused it.
            ApiUnreachableError: It did not answer.
        """
        namespace, ref = owner["metadata"]["namespace"], annotation.ref
        observed = self._store.get(ref.kind, namespace, ref.name)
        if observed is None or "deletionTimestamp" in observed["metadata"]:
            return False
        _check_owner(owner, observed)
        if (observed["metadata"].get("annotations") or {}).get(annotation.name) == annotation.value:
            return False
        metadata = {"uid": observed["metadata"]["uid"], "annotations": {annotation.name: annotation.value}}
        path, query = child_resource_of(ref.kind).path(namespace, ref.name), {"fieldManager": FIELD_MANAGER}
        try:
            answer = await self._client.request(
                "PATCH", path, query=query, body={"metadata": metadata}, content_type=MERGE
            )
        except ApiError as error:
            if error.status in (404, 409):  # It is gone, or another one has its name.
                return False
            raise
        self._store.put(answer)
        return True

    async def _observed(self, kind: str, namespace: str, name: str) -> KubeObject | None:
        """Return a child as it is; of a kind that is not watched, as the API server has it now."""
        resource = child_resource_of(kind)
        if resource not in UNWATCHED:
            return self._store.get(kind, namespace, name)
        try:
            return await self._client.request("GET", resource.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def _put(self, child: KubeObject, is_whole: bool = True) -> None:
        """Store a child, unless nothing would tell the store when it changes."""
        if child_resource_of(child["kind"]) not in UNWATCHED:
            self._store.put(child, is_whole)

    async def _apply(self, path: str, desired: KubeObject, applied: str | None) -> KubeObject:
        """Apply a child that exists.

        Args:
            path: Its path.
            desired: The desired child.
            applied: Digest of the configuration that was applied before.
        """
        if applied != _applied(desired):
            await self._own_as_applied(path)
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        try:
            return await self._client.request(
                "PATCH", path, query=query, body=desired, content_type=APPLY, retry_conflict=True
            )
        except ApiError as error:
            if error.status != 422:
                raise
        # An apply cannot remove what somebody else has added to one of our lists, such as a second port of the same
        # name in a Service; a replacement can.
        full = await self._client.request("GET", path)
        body = {**full, **{key: overlaid(full.get(key), value) for key, value in desired.items()}}
        return await self._client.request("PUT", path, query={"fieldManager": FIELD_MANAGER}, body=body)

    async def _own_as_applied(self, path: str) -> None:
        """Take Apply ownership of created fields, so that the next apply prunes the removed ones."""
        full = await self._client.request("GET", path)
        entries = as_applied(full["metadata"].get("managedFields") or [], FIELD_MANAGER)
        if entries is not None:
            version = full["metadata"]["resourceVersion"]
            body = {"metadata": {"resourceVersion": version, "managedFields": entries}}
            await self._client.request("PATCH", path, body=body, content_type=MERGE)

    def _remember(self, desired: KubeObject, answer: KubeObject) -> None:
        """Remember how the API server normalises a child, if it changes values."""
        uid = answer["metadata"]["uid"]
        if contains(answer, desired):
            self._normalised.pop(uid, None)
        else:
            self._normalised[uid] = (_applied(desired), configuration_digest(answer))

    def _is_kept(self, observed: KubeObject, desired: KubeObject) -> bool:
        """Return whether a child is as desired, or as the API server normalises the desired one."""
        if contains(observed, desired):
            return True
        memory = self._normalised.get(observed["metadata"]["uid"])
        return memory is not None and memory == (_applied(desired), configuration_digest(observed))

    async def _create(self, owner: KubeObject, child: KubeObject, is_whole: bool = True) -> KubeObject | None:
        """Create a child and return it; None if one of its name exists, which is added to the store.

        Args:
            owner: Its owner.
            child: The desired child.
            is_whole: Whether to get the whole object back; if not, the desired child with the server's metadata.
        """
        namespace = owner["metadata"]["namespace"]
        path = child_resource_of(child["kind"]).path(namespace)
        try:
            answer = await self._client.request(
                "POST",
                path,
                query={"fieldManager": FIELD_MANAGER},
                body=child,
                accept=JSON if is_whole else METADATA_ONLY,
            )
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            await self._adopt(owner, child)
            return None
        if not is_whole:
            answer = {**child, "metadata": answer["metadata"]}
        self._put(answer, is_whole)
        self._on_child(owner, answer)
        return answer

    async def _adopt(self, owner: KubeObject, child: KubeObject) -> None:
        """Add a child to the store that exists but was not in it.

        It was created just before a restart, or somebody has removed the label by which it is watched.
        """
        path = child_resource_of(child["kind"]).path(owner["metadata"]["namespace"], child["metadata"]["name"])
        try:
            answer = await self._client.request("GET", path)
            _check_owner(owner, answer)
            if OWNER_UID not in (answer["metadata"].get("labels") or {}):
                body = {"metadata": {"uid": answer["metadata"]["uid"], "labels": child["metadata"]["labels"]}}
                query = {"fieldManager": FIELD_MANAGER}
                answer = await self._client.request("PATCH", path, query=query, body=body, content_type=MERGE)
        except ApiError as error:
            if error.status == 404:  # Gone again: the next reconcile creates it.
                return
            raise
        self._put(answer)


def _applied(desired: KubeObject) -> str:
    return str(desired["metadata"]["annotations"][APPLIED])


def _check_owner(owner: KubeObject, child: KubeObject) -> None:
    labels = child["metadata"].get("labels") or {}
    references = child["metadata"].get("ownerReferences") or ()
    uid = owner["metadata"]["uid"]
    if child["metadata"]["uid"] == uid:  # The owner itself, when its ttlSecondsAfterFinished is over.
        return
    if labels.get(OWNER_UID) != uid and not any(reference.get("uid") == uid for reference in references):
        raise ForeignObjectError(child["kind"], child["metadata"]["name"])
