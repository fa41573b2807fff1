"""The chart's life on a real API server: installed, upgraded, uninstalled, installed again."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.client import CRDS, Cluster, condition
from support.chart import CHART, NAMESPACE, helm
from support.manifests import config_map, job
from support.operator_process import operator

pytestmark = pytest.mark.integration

Object = dict[str, Any]
CRD = "finetunejobs.tunesmith.dev"
# What the chart's Secret and Lease are called, for the operator outside its pod.
NAMES = {"lease_name": "tunesmith", "progress_secret": "tunesmith-progress"}


@pytest.fixture
def bare_cluster(private_api_cluster: Cluster) -> Cluster:
    """A cluster that has never seen the project: the chart brings the CRDs."""
    cluster = private_api_cluster
    for path in sorted(CRDS.glob("*.yaml")):
        cluster.delete("CustomResourceDefinition", path.stem)
        cluster.wait_gone("CustomResourceDefinition", path.stem)
    namespace = {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": namespace})
    return cluster


def release(cluster: Cluster, *arguments: str) -> str:
    return helm(*arguments, "--namespace", NAMESPACE, environment=cluster.environment)


def established(cluster: Cluster) -> None:
    for path in CRDS.glob("*.yaml"):
        cluster.wait(
            "CustomResourceDefinition", path.stem, lambda crd: condition(crd, "Established").get("status") == "True"
        )


def test_install_upgrade_uninstall_install(bare_cluster: Cluster, tmp_path: Path) -> None:
    cluster = bare_cluster
    output = release(cluster, "install", "tunesmith", str(CHART))
    assert "watches all namespaces" in output
    established(cluster)
    # The pods that the Deployment asks for pass admission under `restricted`.
    pods = cluster.wait_all("Pod", lambda pods: len(pods) == 2, NAMESPACE)
    assert {pod["spec"]["serviceAccountName"] for pod in pods} == {"tunesmith"}

    # An upgrade of the chart upgrades the CRDs, which Helm would not do for its crds/ folder.
    newer = shutil.copytree(CHART, tmp_path / "chart")
    template = newer / "templates" / "crds" / f"{CRD}.yaml"
    text = template.read_text()
    changed = re.sub(r"(\n    shortNames:\n    - ftj\n)", r"\1    - finetuning\n", text)
    assert changed != text
    template.write_text(changed)
    release(cluster, "upgrade", "tunesmith", str(newer), "--set", "replicas=3")
    assert "finetuning" in cluster.get("CustomResourceDefinition", CRD)["spec"]["names"]["shortNames"]
    cluster.wait_all("Pod", lambda pods: len(pods) == 3, NAMESPACE)

    # Uninstalling leaves the CRDs and what people made.
    cluster.create(job(), "default")
    release(cluster, "uninstall", "tunesmith")
    assert cluster.find("Deployment", "tunesmith", NAMESPACE) is None
    assert cluster.find("ClusterRole", f"{NAMESPACE}-tunesmith") is None
    assert cluster.get("FineTuneJob", "tiny", "default")

    # The CRDs that stayed are taken over by the next release of the same name.
    release(cluster, "install", "tunesmith", str(CHART))
    names = cluster.wait(
        "CustomResourceDefinition", CRD, lambda crd: "finetuning" not in crd["spec"]["names"]["shortNames"]
    )
    assert names["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert cluster.get("FineTuneJob", "tiny", "default")


@pytest.fixture
def team(bare_cluster: Cluster) -> str:
    metadata = {"name": "team-a", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    bare_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return "team-a"


def as_the_operator(cluster: Cluster, folder: Path) -> Cluster:
    """The cluster, asked as the chart's service account."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.run("create", "token", "tunesmith", "-n", NAMESPACE).strip()
    for user in config["users"]:
        user["user"] = {"token": token}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return replace(cluster, kubeconfig=path)


def refusals(metrics: str) -> Iterator[str]:
    for line in metrics.splitlines():
        if line.startswith("tunesmith_api_requests_total") and re.search('code="40[13]"', line):
            yield line


@pytest.mark.parametrize("mode", ["cluster", "namespaced"])
def test_the_operator_works_with_the_rights_that_the_chart_gives(
    bare_cluster: Cluster, team: str, mode: str, tmp_path: Path
) -> None:
    cluster = bare_cluster
    values = [f"--set=watchNamespaces={{{team}}}", "--set=rbac.aggregate=false"] if mode == "namespaced" else []
    release(cluster, "install", "tunesmith", str(CHART), "--set=replicas=0", *values)
    established(cluster)
    watched = team if mode == "namespaced" else ""
    settings = {"namespaces": watched, "progress_url": "https://localhost:18443", "progress_port": 18443, **NAMES}
    with operator(as_the_operator(cluster, tmp_path), NAMESPACE, **settings) as process:
        cluster.create(config_map(), team)
        cluster.create(job(), team)
        cluster.wait("FineTuneJob", "tiny", lambda obj: obj["status"].get("phase") == "Preparing", team)
        cluster.wait_all("Job", lambda jobs: len(jobs) == 1, team)
        cluster.wait("ConfigMap", "tunesmith-progress-ca", bool, team)
        cluster.wait("Lease", "tunesmith", lambda lease: lease["spec"].get("holderIdentity"), NAMESPACE)
        assert cluster.get("Secret", "tunesmith-progress", NAMESPACE)["data"]
        # Deleting needs rights too: the operator of a job that is gone removes nothing that is not its own.
        cluster.delete("FineTuneJob", "tiny", team)
        cluster.wait_gone("FineTuneJob", "tiny", team)
        assert list(refusals(process.get("/metrics"))) == []
