"""The backend that runs objects on this machine."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api import status as state
from tunesmith_api.artifact import MANIFEST
from tunesmith_api.manifests import Finding, LoadedFineTuneJob, LoadedInferenceWorkspace, Manifests
from tunesmith_api.objects import FineTuneJob, InferenceWorkspace
from tunesmith_api.work_folder import Stage
from tunesmith_backend.interface.errors import BackendError
from tunesmith_backend.interface.events import Emit, Event, Refused, ignore
from tunesmith_backend.interface.protocol import Kind, Object, ObjectRef, ref_of
from tunesmith_backend.local.adapters import LocalAdapters
from tunesmith_backend.local.artifacts import local_artifact, local_draft
from tunesmith_backend.local.job import LocalJob, StopRequestedError
from tunesmith_backend.local.objects import ObjectFolder, Stored, stored_of
from tunesmith_backend.local.refusals import refuse_job_changes
from tunesmith_backend.local.store import locked
from tunesmith_backend.local.workspace import LocalWorkspace

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class _Task:
    """The thread that runs an object, and its stop flag. The child processes die with the thread that started them."""

    thread: threading.Thread
    stop: threading.Event


class LocalBackend:
    """Runs jobs one at a time, and servers side by side. All of them stop when it is closed, and can resume later."""

    def __init__(self, root: Path, *, host: str = "127.0.0.1", emit: Emit = ignore) -> None:
        """Prepare to run objects.

        Args:
            root: Folder of all work.
            host: Address that servers listen on.
            emit: Receives the events. It is called from other threads.
        """
        self._objects = ObjectFolder(root.resolve())
        self._host = host
        self._show = emit
        self._listeners: set[Emit] = set()
        self._tasks: dict[ObjectRef, _Task] = {}
        self._job_turn = threading.Lock()

    async def validate(self, manifests: Manifests) -> list[Finding]:
        """Return findings about changes that are refused, and models on volumes, which this machine does not have."""
        findings = [
            Finding(item.source.file, item.source.line, field, "is a volume of a cluster", "write a path")
            for item in manifests.inference_workspaces
            for field, uri in (
                ("spec.model.uri", item.spec.model.uri),
                ("spec.runtime.draftModel.uri", getattr(item.spec.runtime.draft_model, "uri", None)),
                *((f"spec.adapters[{n}].uri", given.uri) for n, given in enumerate(item.spec.adapters or ())),
            )
            if (uri or "").startswith("pvc://")
        ]
        for job in manifests.fine_tune_jobs:
            try:
                refuse_job_changes(self._objects, job, stored_of(job), manifests.config_maps)
            except BackendError as error:
                message, _, remedy = str(error).partition("; ")
                findings.append(Finding(job.source.file, job.source.line, "spec", message, remedy))
        return findings

    async def apply(self, manifests: Manifests) -> list[ObjectRef]:
        """Store the objects and run them."""
        for job in manifests.fine_tune_jobs:
            refuse_job_changes(self._objects, job, stored_of(job), manifests.config_maps)
        for (namespace, name), contents in manifests.config_maps.items():
            self._objects.put_config_map(namespace, name, contents)
        items: list[LoadedFineTuneJob | LoadedInferenceWorkspace] = [*manifests.fine_tune_jobs]
        items += manifests.inference_workspaces
        for item in items:
            await self._put(ref_of(item), stored_of(item))
        return [ref_of(item) for item in items]

    async def get(self, ref: ObjectRef) -> Object:
        """Return an object."""
        return self._objects.get(ref)

    async def list(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        """Return the objects of a kind, sorted by namespace and name."""
        return [self._objects.get(ref) for ref in self._objects.refs(kind, namespace)]

    async def suspend(self, ref: ObjectRef, suspended: bool = True) -> Object:
        """Set or clear `spec.suspend` of a job."""
        if ref.kind != "FineTuneJob":
            raise BackendError(f"{ref} cannot be suspended; set spec.replicas to 0")
        stored = self._objects.read(ref)
        manifest = {**stored.manifest, "spec": {**stored.manifest["spec"], "suspend": suspended}}
        await self._put(ref, Stored(stored.base, manifest))
        return self._objects.get(ref)

    async def delete(self, ref: ObjectRef) -> None:
        """Stop an object, and delete it with everything that it has written."""
        self._objects.read(ref)
        await asyncio.to_thread(self._stop, ref)
        # A workspace may share its folder with a job, whose lock would be in the way.
        with locked(self._objects.folder(ref)) if ref.kind == "FineTuneJob" else nullcontext():
            self._objects.delete(ref)

    async def watch(self, ref: ObjectRef) -> AsyncIterator[Object]:
        """Yield an object now and whenever it changes."""
        newest = self._objects.get(ref)
        yield newest
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            if self._objects.find(ref) is None:
                return
            current = self._objects.get(ref)
            if current != newest:
                newest = current
                yield newest

    async def announced(self) -> AsyncIterator[ObjectRef]:
        """Yield each object that an event is emitted about from now on, once its status says so."""
        loop, refs = asyncio.get_running_loop(), asyncio.Queue[ObjectRef]()

        def listen(event: Event) -> None:
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(refs.put_nowait, event.ref)

        self._listeners.add(listen)
        try:
            while True:
                yield await refs.get()
        finally:
            self._listeners.discard(listen)

    async def logs(self, ref: ObjectRef, stage: Stage | None = None, *, follow: bool = False) -> AsyncIterator[str]:
        """Yield the lines of the stages, in their order, or of the server."""
        self._objects.read(ref)
        names = [stage.value] if stage else [item.value for item in Stage]
        for name in names if ref.kind == "FineTuneJob" else ["server"]:
            path = self._objects.log(ref, name)
            position, is_last = 0, False
            while True:
                is_last = not follow or not self._is_running(ref)
                text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
                whole = text if is_last else text[: text.rfind("\n") + 1]
                for line in whole[position:].splitlines():
                    yield line
                position = max(position, len(whole))
                if is_last:
                    break
                await asyncio.sleep(_POLL_SECONDS)

    async def endpoint(self, ref: ObjectRef) -> str | None:
        """Return `status.endpoint`."""
        found = self._objects.get(ref).get("status", {}).get("endpoint")
        return str(found) if found else None

    def folder(self, ref: ObjectRef) -> Path | None:
        """Return `ROOT/NAMESPACE/NAME`."""
        return self._objects.folder(ref)

    async def close(self) -> None:
        """Stop everything. The next `apply` resumes from there."""
        for task in self._tasks.values():
            task.stop.set()
        for ref in tuple(self._tasks):
            await asyncio.to_thread(self._stop, ref)

    async def _put(self, ref: ObjectRef, stored: Stored) -> None:
        """Store an object and run it, unless the same object is running already."""
        if self._objects.find(ref) == stored and self._is_running(ref):
            return
        await asyncio.to_thread(self._stop, ref)
        self._objects.put(ref, stored)
        stop = threading.Event()
        run = self._run_job if ref.kind == "FineTuneJob" else self._run_workspace
        self._tasks[ref] = _Task(threading.Thread(target=run, args=(ref, stored, stop), daemon=True), stop)
        self._tasks[ref].thread.start()

    def _emit(self, event: Event) -> None:
        self._show(event)
        for listen in tuple(self._listeners):
            listen(event)

    def _is_running(self, ref: ObjectRef) -> bool:
        return ref in self._tasks and self._tasks[ref].thread.is_alive()

    def _stop(self, ref: ObjectRef) -> None:
        if task := self._tasks.pop(ref, None):
            task.stop.set()
            task.thread.join()

    def _run_job(self, ref: ObjectRef, stored: Stored, stop: threading.Event) -> None:
        while not self._job_turn.acquire(timeout=_POLL_SECONDS):
            if stop.is_set():
                return
        try:
            job = FineTuneJob.model_validate(stored.manifest)
            logs = self._objects.log(ref, "").parent
            local = LocalJob(job, stored.base, self._objects.root, emit=self._emit, stop=stop, logs=logs)
            local.run(self._objects.config_maps(ref.namespace), restart=False)
        except BackendError as error:
            self._emit(Refused(ref, str(error)))
        except StopRequestedError:
            return
        finally:
            self._job_turn.release()

    def _run_workspace(self, ref: ObjectRef, stored: Stored, stop: threading.Event) -> None:
        workspace = InferenceWorkspace.model_validate(stored.manifest)
        log, root = self._objects.log(ref, "server"), self._objects.root
        local = LocalWorkspace(workspace, root, self._host, _free_port(self._host), self._emit, log)
        if workspace.spec.replicas == 0:
            local.scaled_to_zero()
            return
        try:
            # Wait for the jobs that were applied before it: one of them may make the model, unless it is there.
            while not _is_there(workspace) and any(
                self._is_running(job) for job in tuple(self._tasks) if job.kind == "FineTuneJob"
            ):
                if stop.wait(_POLL_SECONDS):
                    return
            refs = self._objects.refs("FineTuneJob", ref.namespace)
            jobs = [FineTuneJob.model_validate(self._objects.read(job).manifest) for job in refs]
            artifact = local_artifact(workspace, stored.base, root, jobs, self._emit, log)
            draft = local_draft(workspace, stored.base, root, self._emit, log)
            local.start(artifact, LocalAdapters.of(workspace, stored.base, root, jobs), draft)
            while not stop.wait(_POLL_SECONDS) and local.alive():
                local.follow_adapters()
        except BackendError as error:
            local.file.write(state.blocked(local.file.status, "CannotServe", str(error)))
            self._emit(Refused(ref, str(error)))
        finally:
            local.stop()


def _is_there(workspace: InferenceWorkspace) -> bool:
    """Return whether all that a workspace serves is an artifact that is complete, which no job changes."""
    spec = workspace.spec
    if spec.model.uri is None or spec.adapters or spec.adapter_selector:
        return False
    path = Path(spec.model.uri)
    return path.is_absolute() and (path / MANIFEST).exists()


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
