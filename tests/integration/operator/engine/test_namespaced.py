"""With rights in one namespace only, by Roles: nothing cluster-wide is asked for."""

import time
from pathlib import Path

import pytest

from cluster.client import Cluster, condition
from support.engine_process import engine
from support.manifests import job
from support.rights import kubeconfig_of

pytestmark = pytest.mark.integration

RULES = [
    ("tunesmith.dev", ["finetunejobs", "inferenceworkspaces"], ["get", "list", "watch"]),
    ("tunesmith.dev", ["finetunejobs/status", "inferenceworkspaces/status"], ["patch"]),
    # blockOwnerDeletion needs the right to set finalizers where that is enforced.
    ("tunesmith.dev", ["finetunejobs/finalizers", "inferenceworkspaces/finalizers"], ["update"]),
    ("batch", ["jobs"], ["get", "list", "watch", "create", "patch", "update", "delete"]),
    ("policy", ["poddisruptionbudgets"], ["get", "list", "watch", "create", "patch", "update", "delete"]),
    ("apps", ["deployments"], ["get", "list", "watch", "create", "patch", "update", "delete"]),
    ("", ["services", "persistentvolumeclaims"], ["get", "list", "watch", "create", "patch", "update", "delete"]),
    ("", ["pods"], ["get", "list", "watch"]),
    ("events.k8s.io", ["events"], ["create", "list"]),
    ("coordination.k8s.io", ["leases"], ["get", "create", "update"]),
]


def test_roles_of_one_namespace_are_enough(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    kubeconfig = kubeconfig_of(cluster, namespace, RULES, tmp_path / "kubeconfig")
    environment = {**cluster.environment, "KUBECONFIG": str(kubeconfig)}
    log = tmp_path / "log"
    with engine(environment, log, namespaces=namespace, pod_namespace=namespace, pod_name="only") as process:
        cluster.apply(job("a"), namespace)
        cluster.wait("FineTuneJob", "a", lambda obj: condition(obj, "Ready").get("reason") == "Working", namespace)
        cluster.delete("Service", "a", namespace)
        cluster.wait("Service", "a", lambda obj: "deletionTimestamp" not in obj["metadata"], namespace)
        begin = time.monotonic()
        assert process.terminate() == 0
        assert time.monotonic() - begin < 10
    assert "orbidden" not in log.read_text()
