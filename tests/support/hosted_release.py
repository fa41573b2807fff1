"""Releases of the chart that are the hosted API alone, beside an operator that is installed."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import openai
import yaml

from cluster import binaries
from cluster.client import Cluster
from cluster_demo.install import ROOT
from support.s3_server import BUCKET, S3Server

Values = dict[str, Any]

EXAMPLE = ROOT / "examples" / "hosted"
BASES = yaml.safe_load((EXAMPLE / "hosted.yaml").read_text(encoding="utf-8"))["bases"]
"""The base models of the example."""

_RELEASE = "hosted"
NAME = f"{_RELEASE}-tunesmith-hosted"
_LABELS = "app.kubernetes.io/component=hosted"
_METRICS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/metrics').read().decode())"


@dataclass(frozen=True)
class Release:
    """A release.

    Attributes:
        cluster: Where it is.
        namespace: Its namespace.
        prefix: Of the namespaces of its projects.
        folder: For files of values.
        values: Its values below `hosted`.
    """

    cluster: Cluster
    namespace: str
    prefix: str
    folder: Path
    values: Values

    @cached_property
    def url(self) -> str:
        """The API's URL, by the Service's address."""
        service = self.cluster.get("Service", NAME, self.namespace)["spec"]
        return f"http://{service['clusterIP']}:{service['ports'][0]['port']}/v1"

    def administer(self, *arguments: str) -> str:
        """Run the service's command in one of its pods, as docs/hosted.md says, and return what it prints."""
        command = ["python", "-m", "tunesmith_hosted", "--config", "/etc/tunesmith/hosted.yaml", *arguments]
        return self.cluster.run("exec", "-n", self.namespace, f"deploy/{NAME}", "--", *command)

    def create_project(self, name: str) -> str:
        """Create a project, and return a key of it."""
        self.administer("projects", "create", name)
        return self.administer("keys", "create", name).partition("api_key=")[2].strip()

    def client(self, key: str, **options: Any) -> openai.OpenAI:
        """Return OpenAI's client of the service."""
        return openai.OpenAI(base_url=self.url, api_key=key, **options)

    def apply(self, **changes: Any) -> None:
        """Install the release, or upgrade it with changed values, and wait for its pods as Helm does.

        Raises:
            AssertionError: Helm failed; with what the pods say.
        """
        values = {"replicas": 0, "crds": {"install": False}, "rbac": {"aggregate": False}}
        path = self.folder / f"values-{uuid.uuid4().hex[:6]}.json"
        path.write_text(json.dumps({**values, "hosted": {**self.values, **changes}}))
        done = self._helm("upgrade", "--install", _RELEASE, str(ROOT / "helm" / "tunesmith"), "-f", str(path), "--wait")
        if done.returncode:
            pods = self.cluster.run("describe", "pods", "-n", self.namespace, check=False)
            labels = f"app.kubernetes.io/instance={_RELEASE}"
            logs = self.cluster.run(
                "logs", "-n", self.namespace, "-l", labels, "--all-containers", "--prefix", check=False
            )
            raise AssertionError(f"helm:\n{done.stdout}{done.stderr}\n{pods}\n{logs}")

    def upgrade(self, **changes: Any) -> None:
        """Upgrade the release with changed values, and wait until the pods of before are gone.

        Raises:
            AssertionError: Helm failed, or there is one still.
        """
        before = {pod["metadata"]["uid"] for pod in self._pods()}
        self.apply(**changes)

        def replaced(pods: list[Values]) -> bool:
            return bool(pods) and not before & {pod["metadata"]["uid"] for pod in pods}

        self.cluster.wait_all("Pod", replaced, self.namespace, labels=_LABELS)

    def refused(self) -> list[str]:
        """Return what the pods count of requests to the API server that they may not send."""
        found = []
        for pod in self._pods():
            name = pod["metadata"]["name"]
            metrics = self.cluster.run(
                "exec", "-n", self.namespace, name, "-c", "hosted", "--", "python", "-c", _METRICS
            )
            assert "tunesmith_hosted_kubernetes_requests_total{" in metrics
            pattern = r'^tunesmith_hosted_kubernetes_requests_total\{.*status="40[13]".*'
            found += re.findall(pattern, metrics, re.MULTILINE)
        return found

    def remove(self) -> None:
        """Uninstall it, and delete its namespaces."""
        self._helm("uninstall", _RELEASE)
        for item in self.cluster.list("Namespace"):
            if item["metadata"]["name"].startswith((self.prefix, self.namespace)):
                self.cluster.delete("Namespace", item["metadata"]["name"])

    def _pods(self) -> list[Values]:
        return self.cluster.list("Pod", self.namespace, labels=_LABELS)

    def _helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(binaries.helm()), *arguments, "-n", self.namespace, "--timeout", "180s"]
        return subprocess.run(command, env=self.cluster.environment, capture_output=True, text=True, check=False)


@contextmanager
def released(
    cluster: Cluster, store: S3Server, folder: Path, secrets: Mapping[str, Values] | None = None, **given: Any
) -> Iterator[Release]:
    """Install a release, and remove it at the end of the context.

    Args:
        cluster: Where the operator is installed.
        store: Its object store.
        folder: For files.
        secrets: The content of Secrets beside that of the store, by their names.
        given: Values below `hosted`.
    """
    id = uuid.uuid4().hex[:6]
    namespace, prefix = f"hosted-{id}", f"h{id}-"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
    values = {
        "enabled": True,
        "files": {"uri": f"s3://{BUCKET}/files", "existingSecret": "store"},
        "bases": BASES,
        "projects": {"namespacePrefix": prefix},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        **given,
    }
    release = Release(cluster, namespace, prefix, folder, values)
    try:
        for name, data in {"store": store.variables, **(secrets or {})}.items():
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
            cluster.create(secret, namespace)
        release.apply()
        yield release
    finally:
        release.remove()
