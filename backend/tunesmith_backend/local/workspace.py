"""Serves one InferenceWorkspace on this machine: a server process and a status file."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from tunesmith_api import status as state
from tunesmith_api.artifact import MANIFEST
from tunesmith_api.contract import API_KEY, READY_PATH
from tunesmith_api.local.files import read_json
from tunesmith_api.objects import InferenceWorkspace
from tunesmith_api.status.adapters import with_adapters, without_adapters
from tunesmith_api.tasks import base_path
from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.interface.events import AdapterChanged, Emit, ScaledToZero, ServerEnded, Serving, ignore
from tunesmith_backend.interface.protocol import ref_of
from tunesmith_backend.local import children
from tunesmith_backend.local.adapters import LocalAdapters
from tunesmith_backend.local.artifacts import require_precision
from tunesmith_backend.local.cluster_only import emit_cluster_only_fields
from tunesmith_backend.local.store import StatusFile, object_folder

_POLL_SECONDS = 0.05
_FOLLOW_SECONDS = 0.5


class LocalWorkspace:
    """Serves one artifact until it is stopped."""

    def __init__(
        self,
        workspace: InferenceWorkspace,
        root: Path,
        host: str,
        port: int,
        emit: Emit = ignore,
        log: Path | None = None,
    ) -> None:
        """Prepare to serve.

        Args:
            workspace: The object.
            root: Folder of all work folders.
            host: Address to listen on.
            port: Port to listen on.
            emit: Receives the events.
            log: File for the output of the server; by default it inherits our output.
        """
        self.workspace = workspace
        self.name = workspace.metadata.name
        self.ref = ref_of(workspace)
        self._emit = emit
        self._log = log
        folder = object_folder(root, workspace.metadata.namespace or "default", self.name)
        folder.mkdir(parents=True, exist_ok=True)
        self.file = StatusFile(folder, "InferenceWorkspace")
        self.host, self.port = host, port
        self._base_path = base_path(None)
        self.process: subprocess.Popen[bytes] | None = None
        self._adapters: LocalAdapters | None = None
        self._followed = 0.0

    @property
    def endpoint(self) -> str:
        """Base URL for the clients of the model's task."""
        return f"http://{self.host}:{self.port}{self._base_path}"

    def start(self, artifact: Path, adapters: LocalAdapters | None = None, draft: Path | None = None) -> None:
        """Start the server, and return when it is ready.

        Args:
            artifact: Folder of what to serve.
            adapters: The adapters to serve on it; None if there are none.
            draft: Folder of the artifact of its draft model; None if there is none.

        Raises:
            BackendError: There is no artifact, API key or free port; or the server ended before it was ready, and has
                printed why.
        """
        manifest = read_json(artifact / MANIFEST)
        if manifest is None:
            raise BackendError(f"{artifact} holds no complete artifact ({MANIFEST} is missing)", ErrorKind.FAILED)
        spec = self.workspace.spec
        self._base_path = base_path(manifest.get("task"))
        precision = require_precision(manifest, spec.runtime, artifact)
        if spec.auth is not None and not os.environ.get(API_KEY):
            raise BackendError(
                f"InferenceWorkspace {self.name}: spec.auth asks for an API key, and there are no Secrets on one "
                f"machine; set {API_KEY}=KEY, or remove auth",
                ErrorKind.FAILED,
            )
        emit_cluster_only_fields(self.ref, spec, self._emit)
        _check_free(self.host, self.port)
        self.file.write(state.progressing(self.file.status, f"Starting {artifact}"))
        arguments = [
            *("--artifact", str(artifact), "--model-name", self.name, "--host", self.host, "--port", str(self.port)),
            *(("--precision", precision) if precision else ()),
            *(("--batch-precision", batch) if (batch := spec.runtime.batch_precision) else ()),
            *("--slots", str(spec.runtime.max_batch_size), "--max-queue", str(spec.runtime.max_queue_length)),
            *("--context-length", str(spec.runtime.context_length)),
            *("--execution-provider", spec.runtime.execution_provider),
            *(("--provider-options", json.dumps(options)) if (options := spec.runtime.provider_options) else ()),
            *("--prefix-cache-memory", spec.runtime.prefix_cache_memory),
            *("--draft-tokens", str(spec.runtime.draft_tokens)),
            *(("--draft-model", str(draft)) if draft else ()),
        ]
        self._adapters = adapters
        if adapters is not None:
            adapters.write(manifest.get("digest"))
            arguments += ["--adapters", str(adapters.file)]
        self.process = children.start("tunesmith_serving", arguments, log=self._log)
        self._wait_until_ready()
        self.file.write(
            state.serving(
                self.file.status,
                endpoint=self.endpoint,
                digest=str(manifest.get("digest", "")),
                artifact=str(artifact),
            )
        )
        self._emit(Serving(self.ref, self.endpoint))
        self.follow_adapters()

    def follow_adapters(self) -> None:
        """Tell the server which adapters there are now, and write to the status what it says about them."""
        if self._adapters is None:
            self.file.write(without_adapters(self.file.status))
            return
        if time.monotonic() - self._followed < _FOLLOW_SECONDS:
            return
        self._followed = time.monotonic()
        self._adapters.write()
        states = self._adapters.states(f"http://{self.host}:{self.port}")
        before = {item["name"]: item["state"] for item in self.file.status.get("adapters") or ()}
        self.file.write(with_adapters(self.file.status, states))
        for item in states:
            if item["state"] != "Pending" and before.get(item["name"]) != item["state"]:
                self._emit(AdapterChanged(self.ref, item["name"], item["state"], item.get("message", "")))
        for name in sorted(before.keys() - {item["name"] for item in states}):
            self._emit(AdapterChanged(self.ref, name, "Gone"))

    def _wait_until_ready(self) -> None:
        assert self.process is not None  # noqa: S101 - set by the only caller
        while self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://{self.host}:{self.port}{READY_PATH}", timeout=2):  # noqa: S310
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(_POLL_SECONDS)
        self.file.write(
            state.failed(self.file.status, "ServerFailed", "The server ended before it was ready; it has printed why")
        )
        raise BackendError(f"InferenceWorkspace {self.name}: the server ended before it was ready", ErrorKind.FAILED)

    def alive(self) -> bool:
        """Return whether the server is running. If it is not, write that to the status."""
        if self.process is not None and self.process.poll() is None:
            return True
        code = None if self.process is None else self.process.returncode
        self.file.write(state.failed(self.file.status, "ServerFailed", f"The server ended with exit code {code}"))
        self._emit(ServerEnded(self.ref, code))
        return False

    def scaled_to_zero(self) -> None:
        """Write to the status that `replicas` is 0."""
        self.file.write(state.scaled_to_zero(self.file.status))
        self._emit(ScaledToZero(self.ref))

    def stop(self) -> None:
        """Stop the server; requests in flight are finished first."""
        if self.process is not None and self.process.poll() is None:
            children.stop(self.process)
            self.file.write(state.stopped(self.file.status))


def _check_free(host: str, port: int) -> None:
    """Raise BackendError if another process listens on a port: its answers must not be taken for the server's."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BackendError(f"{host}:{port} cannot be served on ({error.strerror}); give another --port") from None
