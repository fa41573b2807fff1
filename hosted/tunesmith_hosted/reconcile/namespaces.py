"""The objects of a project's namespace. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith_hosted.fine_tuning.manifest import PROJECT_LABEL

MANAGED = {"app.kubernetes.io/managed-by": "tunesmith-hosted"}

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_QUOTA = {
    "count/finetunejobs.tunesmith.dev": "1000",
    "count/inferenceworkspaces.tunesmith.dev": "1000",
    "services.loadbalancers": "0",
    "services.nodeports": "0",
}
_NAME_LABEL = "kubernetes.io/metadata.name"
_LINK_LOCAL = "169.254.0.0/16"


def own_namespace() -> str:
    """Return the namespace of the service and the operator."""
    return _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else "tunesmith-system"


def namespace_objects(
    name: str, project_id: str, limits: Mapping[str, str], system: str | None = None
) -> list[tuple[str, dict[str, Any]]]:
    """Return the objects, each with its path.

    Pods may be asked by their own namespace and the service's alone. They may ask anybody but link-local addresses,
    where clouds keep the credentials of machines; other projects' pods do not answer.

    Args:
        name: The namespace.
        project_id: The project; empty for what all projects share.
        limits: `spec.hard` of the ResourceQuota, over the usual ones.
        system: Namespace of the service and the operator.
    """
    labels = {**MANAGED, "pod-security.kubernetes.io/enforce": "restricted"}
    if project_id:
        labels[PROJECT_LABEL] = project_id
    core, networking = f"/api/v1/namespaces/{name}", f"/apis/networking.k8s.io/v1/namespaces/{name}/networkpolicies"
    own: dict[str, Any] = {"podSelector": {}}
    service = {"namespaceSelector": {"matchLabels": {_NAME_LABEL: system or own_namespace()}}}
    anybody = {"ipBlock": {"cidr": "0.0.0.0/0", "except": [_LINK_LOCAL]}}
    everywhere: dict[str, Any] = {"namespaceSelector": {}}
    return [
        (core, _object("v1", "Namespace", name, None, metadata={"labels": labels})),
        (
            f"{core}/resourcequotas/project",
            _object("v1", "ResourceQuota", "project", {"hard": {**_QUOTA, **limits}}),
        ),
        (
            f"{core}/limitranges/project",
            _object(
                "v1",
                "LimitRange",
                "project",
                {"limits": [{"type": "Container", "defaultRequest": {"cpu": "100m", "memory": "128Mi"}}]},
            ),
        ),
        (
            f"{networking}/default-deny",
            _object(
                "networking.k8s.io/v1",
                "NetworkPolicy",
                "default-deny",
                {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
            ),
        ),
        (
            f"{networking}/project",
            _object(
                "networking.k8s.io/v1",
                "NetworkPolicy",
                "project",
                {
                    "podSelector": {},
                    "policyTypes": ["Ingress", "Egress"],
                    "ingress": [{"from": [own, service]}],
                    "egress": [{"to": [own, everywhere, anybody]}],
                },
            ),
        ),
    ]


def _object(
    version: str, kind: str, name: str, spec: dict[str, Any] | None, metadata: dict[str, Any] | None = None
) -> dict[str, Any]:
    body: dict[str, Any] = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": MANAGED}}
    body["metadata"] |= metadata or {}
    if spec is not None:
        body["spec"] = spec
    return body
