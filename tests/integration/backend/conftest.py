"""The same objects in both backends: on this machine, and in a real API server without nodes."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tunesmith_api.local.files import write_json
from tunesmith_api.manifests import Manifests, load_manifests
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_backend.cluster.backend import ClusterBackend
from tunesmith_backend.cluster.client import ClusterClient
from tunesmith_backend.interface.protocol import Backend
from tunesmith_backend.local.backend import LocalBackend
from tunesmith_backend.local.store import object_folder


@dataclass
class Subject:
    """A backend under test.

    Attributes:
        backend: The backend.
        namespace: A namespace that nothing else uses.
        folder: Folder for manifests.
        succeed: Makes a job look as if it had succeeded.
        config_map: Returns the contents of a ConfigMap of the namespace, {} if there is none.
    """

    backend: Backend
    namespace: str
    folder: Path
    succeed: Callable[[str], None]
    config_map: Callable[[str], dict[str, str]]

    def load(self, *objects: dict[str, Any]) -> Manifests:
        """Return objects as the manifests of one file, in the namespace."""
        for item in objects:
            item["metadata"]["namespace"] = self.namespace
        path = self.folder / "all.yaml"
        path.write_text(yaml.safe_dump_all(objects))
        loaded = load_manifests([path])
        assert loaded.findings == []
        return loaded


@pytest_asyncio.fixture(params=["local", pytest.param("cluster", marks=pytest.mark.integration)])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    """Each backend, empty."""
    if request.param == "local":
        local = _local(tmp_path)
        yield local
        await local.backend.close()
        return
    cluster = request.getfixturevalue("cluster")
    namespace = request.getfixturevalue("namespace")
    backend = ClusterBackend(await ClusterClient.connect(str(cluster.kubeconfig), cluster.context))

    def config_map(name: str) -> dict[str, str]:
        found = [item for item in cluster.list("ConfigMap", namespace) if item["metadata"]["name"] == name]
        return found[0]["data"] if found else {}

    def succeed(name: str) -> None:
        status = {"apiVersion": "tunesmith.dev/v1alpha1", "status": {"phase": "Succeeded"}}
        cluster.patch("FineTuneJob", name, status, namespace, "status")

    yield Subject(backend, namespace, tmp_path, succeed, config_map)
    await backend.close()


def _local(folder: Path) -> Subject:
    root = folder / "work"

    def config_map(name: str) -> dict[str, str]:
        files = (root / "contract" / ".config-maps" / name).glob("*")
        return {path.name: path.read_text() for path in files}

    def succeed(name: str) -> None:
        work = WorkFolder(object_folder(root, "contract", name))
        write_json(work.stage_marker(Stage.PUBLISH), {"artifact": {"uri": "/artifact"}})

    return Subject(LocalBackend(root), "contract", folder, succeed, config_map)
