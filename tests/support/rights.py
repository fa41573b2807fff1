"""A user of the cluster with few rights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster.client import Cluster

Rule = tuple[str, list[str], list[str]]


def kubeconfig_of(cluster: Cluster, namespace: str, rules: Sequence[Rule], path: Path) -> Path:
    """Write a kubeconfig for a service account with rights to API groups, resources and verbs in its namespace."""
    given = [{"apiGroups": [group], "resources": resources, "verbs": verbs} for group, resources, verbs in rules]
    rbac = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": namespace}
    cluster.apply(
        [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator"}},
            {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": "operator"}, "rules": given},
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "operator"},
                "subjects": [subject],
                "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "operator"},
            },
        ],
        namespace,
    )
    token = cluster.run("create", "token", "operator", "-n", namespace).strip()
    config: dict[str, Any] = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path.write_text(json.dumps(config))
    return path
