"""The hosted service over an embedded cluster, with the rights that the chart gives it and no others."""

import asyncio
import contextlib
import json
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from cluster.client import Cluster
from cluster.requests import ApiError, Http
from support.chart import render
from support.hosted import Hosted
from support.operator import wait_until
from tunesmith_backend.cluster.backend import ClusterBackend
from tunesmith_backend.cluster.client import ClusterClient
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.process.background import BACKGROUND, keep_running

_KINDS = {
    "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}  # fmt: skip


@dataclass(frozen=True)
class Rights:
    """What the chart gives the service.

    Attributes:
        kubeconfig: Of its service account.
        prefix: Of the names of its namespaces.
        settings: Those of the service that name its role.
    """

    kubeconfig: Path
    prefix: str
    settings: dict[str, Any]

    def http(self) -> Http:
        """Return a client with these rights."""
        return Http(self.kubeconfig)


@contextmanager
def rights(cluster: Cluster, folder: Path) -> Iterator[Rights]:
    """Apply the chart's service account, roles and admission policy, until left."""
    id = uuid.uuid4().hex[:8]
    namespace, prefix = f"system-{id}", f"h{id}-"
    hosted = {
        "enabled": True, "database": {"existingSecret": "database"},
        "files": {"uri": "s3://bucket/files", "existingSecret": "store"}, "projects": {"namespacePrefix": prefix},
    }  # fmt: skip
    objects = render({"hosted": hosted, "crds": {"install": False}}, release=f"r{id}", namespace=namespace)
    config = next(obj for obj in objects if obj["kind"] == "ConfigMap" and "hosted.yaml" in obj["data"])
    settings = json.loads(config["data"]["hosted.yaml"])["cluster"]
    mine = [obj for obj in objects if obj["kind"] in _KINDS and "hosted" in obj["metadata"]["name"]]
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, *mine])
    token = cluster.run("create", "token", settings["service_account"], "-n", namespace).strip()
    text: dict[str, Any] = yaml.safe_load(cluster.kubeconfig.read_text())
    text["users"] = [{"name": user["name"], "user": {"token": token}} for user in text["users"]]
    path = folder / "kubeconfig"
    path.write_text(json.dumps(text))
    found = Rights(path, prefix, settings)
    # The API server learns of a policy after a moment.
    wait_until("the admission policy", lambda: _is_refused(found.http(), f"{prefix}without-label"))
    try:
        yield found
    finally:
        for obj in (*reversed(mine), {"kind": "Namespace", "metadata": {"name": namespace}}):
            cluster.delete(obj["kind"], obj["metadata"]["name"], obj["metadata"].get("namespace"))
        for item in cluster.list("Namespace"):
            if item["metadata"]["name"].startswith(prefix):
                cluster.delete("Namespace", item["metadata"]["name"])


def _is_refused(http: Http, name: str) -> bool:
    try:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        http.request("POST", "/api/v1/namespaces", body, dryRun="All")
    except ApiError as error:
        return "only in namespaces that it has made" in error.message
    return False


@dataclass
class Replica:
    """What a replica of the service does beside its routes.

    Attributes:
        requests: Its requests to the API server, by method and status.
    """

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)

    @property
    def refused(self) -> int:
        """How often it was refused for lack of rights."""
        return sum(count for (_, status), count in self.requests.items() if status in (401, 403))


@contextmanager
def replica(hosted: Hosted, kubeconfig: Path) -> Iterator[Replica]:
    """Run the background of a replica, until left."""
    found = Replica()
    stop, wake = asyncio.Event(), asyncio.Event()

    async def run() -> None:
        backend = ClusterBackend(await ClusterClient.connect(str(kubeconfig)), "tunesmith-hosted", force=True)
        backend.client.on_response = lambda method, status: found.requests.update([(method, status)])
        context = Context(hosted.settings, hosted.sessions, backend, wake_reconciler=wake.set)
        try:
            await asyncio.gather(*(keep_running(part, context, wake, stop) for part in BACKGROUND))
        finally:
            await backend.close()

    running = asyncio.run_coroutine_threadsafe(run(), hosted.loop)
    try:
        yield found
    finally:
        hosted.loop.call_soon_threadsafe(stop.set)
        hosted.loop.call_soon_threadsafe(wake.set)
        running.result(300)


class Link:
    """The way to an API server: it can be cut, and be there again at the same address."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        server = config["clusters"][0]["cluster"]
        self._target = (str(urlsplit(server["server"]).hostname), int(urlsplit(server["server"]).port or 443))
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        server["server"] = f"https://127.0.0.1:{self.port}"
        self.kubeconfig = folder / "link.kubeconfig"
        self.kubeconfig.write_text(json.dumps(config))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Refuse connections, and break those that there are."""
        for end in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def restore(self) -> None:
        """Take connections again."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self._target)
                self._open |= {client, server}
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=ends, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
