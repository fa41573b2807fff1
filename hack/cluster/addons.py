"""Add-ons of a cluster: DNS and storage classes."""

import json
import sys
from pathlib import Path
from typing import Any

from cluster import binaries, images
from cluster.network import DNS_SERVICE, DOMAIN
from cluster.paths import SOURCES
from cluster.state import State

PROVISIONER = "tunesmith.dev/local"
STORAGE_CLASSES = ("tunesmith-local", "tunesmith-shared")
"""The default one, whose volumes are made when a pod is placed, and one that is meant for several pods at once."""
_DNS_IMAGE = "tunesmith.dev/coredns:v1"
_DNS = {"name": "coredns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}


def start(state: State) -> None:
    """Start the volume provisioner, and load CoreDNS's image into the node."""
    environment = {"PYTHONPATH": str(SOURCES.parent)}
    state.start("provisioner", [sys.executable, "-m", "cluster.provisioner", state.name], environment)
    images.load_program(state.name, binaries.coredns(), _DNS_IMAGE)


def objects(resolver: bool) -> list[dict[str, Any]]:
    """Return the objects to apply.

    Args:
        resolver: Whether the node's own name servers are asked for names outside the cluster.
    """
    return [*_storage(), *_dns(resolver)]


def has_resolver(path: Path) -> bool:
    """Return whether a resolv.conf names a server that pods can reach too."""
    lines = path.read_text().splitlines() if path.exists() else []
    servers = [line.split()[1] for line in lines if line.startswith("nameserver ")]
    return bool(servers) and not any(server.startswith("127.") or server == "::1" for server in servers)


def _storage() -> list[dict[str, Any]]:
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    return [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name, "annotations": default if name == STORAGE_CLASSES[0] else {}},
            "provisioner": PROVISIONER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer" if name == STORAGE_CLASSES[0] else "Immediate",
        }
        for name in STORAGE_CLASSES
    ]


def _dns(resolver: bool) -> list[dict[str, Any]]:
    forward = "forward . /etc/resolv.conf\n" if resolver else ""
    zones = f"kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{\npods insecure\nfallthrough in-addr.arpa ip6.arpa\nttl 1\n}}"
    corefile = f".:1053 {{\nerrors\nhealth\nready\n{zones}\n{forward}}}\n"
    read = {"verbs": ["list", "watch"]}
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], **read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], **read},
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "coredns"}
    account = {"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}
    container = {
        "name": "coredns",
        "image": _DNS_IMAGE,
        "args": ["-conf", "/etc/coredns/Corefile"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
    }
    pod = {
        "serviceAccountName": "coredns",
        "dnsPolicy": "Default",
        "priorityClassName": "system-cluster-critical",
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    labels = _DNS["labels"]
    template = {"metadata": {"labels": labels}, "spec": pod}
    ports = [{"name": name, "port": 53, "targetPort": 1053, "protocol": name.upper()} for name in ("udp", "tcp")]
    rbac = "rbac.authorization.k8s.io/v1"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _DNS},
        {"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": "coredns"}, "rules": rules},
        {
            "apiVersion": rbac,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "coredns"},
            "roleRef": role,
            "subjects": [account],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _DNS, "data": {"Corefile": corefile}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _DNS,
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**_DNS, "name": "kube-dns"},
            "spec": {"selector": labels, "clusterIP": DNS_SERVICE, "ports": ports},
        },
    ]


def as_list(items: list[dict[str, Any]]) -> str:
    """Return objects as the text that `kubectl apply -f -` takes."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
