"""A fake of a backend: objects in memory, whose statuses the test sets. What really runs is tested elsewhere."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tunesmith_api.manifests import Manifests
from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.interface.protocol import ObjectRef, ref_of


class FakeBackend:
    """Keeps objects, and counts how often each was made.

    Attributes:
        objects: The objects by reference.
        made: How often an object was made that was not there.
        endpoints: Base URLs of workspaces.
        folders: Work folders, by the names of objects.
    """

    def __init__(self) -> None:
        self.objects: dict[ObjectRef, dict[str, Any]] = {}
        self.made: dict[ObjectRef, int] = {}
        self.endpoints: dict[ObjectRef, str] = {}
        self.folders: dict[str, Path] = {}

    async def apply(self, manifests: Manifests) -> list[ObjectRef]:
        refs = []
        for item in (*manifests.fine_tune_jobs, *manifests.inference_workspaces):
            ref = ref_of(item)
            plain = item.document.plain()
            if ref not in self.objects:
                self.made[ref] = self.made.get(ref, 0) + 1
                self.objects[ref] = {"status": {}}
            self.objects[ref] |= {"metadata": plain["metadata"], "spec": dict(plain["spec"])}
            refs.append(ref)
        return refs

    async def get(self, ref: ObjectRef) -> dict[str, Any]:
        if ref not in self.objects:
            raise BackendError("there is none", ErrorKind.NOT_FOUND)
        return self.objects[ref]

    async def suspend(self, ref: ObjectRef, suspended: bool = True) -> dict[str, Any]:
        (await self.get(ref))["spec"]["suspend"] = suspended
        return self.objects[ref]

    async def delete(self, ref: ObjectRef) -> None:
        await self.get(ref)
        del self.objects[ref]

    async def endpoint(self, ref: ObjectRef) -> str | None:
        replicas = (await self.get(ref))["spec"].get("replicas", 1)
        return self.endpoints.get(ref) if replicas else None

    def folder(self, ref: ObjectRef) -> Path | None:
        return self.folders.get(ref.name)

    async def close(self) -> None:
        pass

    def watch(self, ref: ObjectRef) -> AsyncIterator[dict[str, Any]]:
        raise NotImplementedError

    def set_status(self, name: str, **status: Any) -> None:
        """Set the status of the FineTuneJob of a name."""
        (ref,) = [ref for ref in self.objects if ref.name == name and ref.kind == "FineTuneJob"]
        self.objects[ref]["status"] = status

    def jobs(self) -> list[str]:
        """Return the names of the FineTuneJobs."""
        return sorted(ref.name for ref in self.objects if ref.kind == "FineTuneJob")


def condition(reason: str, message: str, status: str = "Unknown") -> list[dict[str, str]]:
    """Return the conditions of a status that say why."""
    return [{"type": "Ready", "status": status, "reason": reason, "message": message}]
