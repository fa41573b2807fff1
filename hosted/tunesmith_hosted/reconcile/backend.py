"""Objects of the backend, as the reconciler writes and reads them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tunesmith_api.manifests import load_documents
from tunesmith_api.manifests.files import Document
from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.interface.protocol import Backend, ObjectRef
from tunesmith_hosted.http.context import Context

Object = dict[str, Any]

_AGAIN_SECONDS = 30.0


def look_seconds(context: Context) -> float:
    """Return the seconds between two looks at an object: on a cluster a watch tells of changes meanwhile."""
    settings = context.settings
    return settings.reconcile_seconds if settings.backend == "local" else settings.cluster.resync_seconds


class Objects:
    """Writes objects only if they differ from what this process has written lately.

    A backend on one machine stops its objects when the service ends, and lets them go on when they are applied again,
    so each process applies each of them once. After a while it does so again, for what others have changed meanwhile.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._applied: dict[ObjectRef, tuple[str, float]] = {}

    async def find(self, ref: ObjectRef) -> Object | None:
        """Return an object, None if there is none."""
        try:
            return await self._backend.get(ref)
        except BackendError as error:
            if error.kind is ErrorKind.NOT_FOUND:
                return None
            raise

    def is_applied(self, ref: ObjectRef, manifest: Object) -> bool:
        """Return whether this process has applied this manifest lately."""
        text, since = self._applied.get(ref, ("", 0.0))
        return text == json.dumps(manifest) and time.monotonic() - since < _AGAIN_SECONDS

    async def apply(self, ref: ObjectRef, manifest: Object) -> None:
        """Create or update an object.

        Raises:
            BackendError: It is refused.
        """
        text = json.dumps(manifest)
        # Relative paths of the settings start at the service's working folder.
        loaded = load_documents([Document(Path.cwd() / f"{ref.name}.json", text)])
        if loaded.findings:
            raise BackendError("; ".join(f"{item.field} {item.message}; {item.remedy}" for item in loaded.findings))
        await self._backend.apply(loaded)
        self._applied[ref] = text, time.monotonic()

    async def suspend(self, ref: ObjectRef, suspended: bool) -> None:
        """Suspend a job, or let it go on."""
        await self._backend.suspend(ref, suspended)
        if suspended:
            self._applied.pop(ref, None)

    async def delete(self, ref: ObjectRef) -> None:
        """Delete an object; nothing happens if there is none."""
        self._applied.pop(ref, None)
        try:
            await self._backend.delete(ref)
        except BackendError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise

    async def endpoint(self, ref: ObjectRef) -> str | None:
        """Return the base URL of a workspace, None while it serves nothing."""
        return await self._backend.endpoint(ref)
