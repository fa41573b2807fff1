"""How projects live on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

SERVICE_ACCOUNT = "project"
"""The service account of a project's pods, where they have an identity."""

_HTTPS = {
    "to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}, {"ipBlock": {"cidr": "::/0"}}],
    "ports": [{"port": 443, "protocol": "TCP"}],
}


class ClusterSettings(BaseModel):
    """How projects live on a cluster. The chart sets it; nothing of it has a meaning on one machine.

    Attributes:
        system_namespace: Namespace of the service and the operator; the pod's own by default.
        role: ClusterRole that the service binds itself to in each project's namespace; empty where it has rights there.
        service_account: The service's own service account, which that binding names.
        binding: Name of that binding.
        secrets: Folder with a folder for each Secret of which every project's namespace gets a copy.
        files_secret: The one of them that has the variables by which pods reach `files`.
        pod_labels: Labels of the pods of jobs and servers.
        account_annotations: Annotations of their service account, such as one of a cloud's identity. If there
            are any, pods have that account.
        quota: `spec.hard` of a project's ResourceQuota, over the usual one; the project's own goes before it.
        ingress: Who else may ask pods of projects, as `ingress` of a NetworkPolicy.
        egress: Where pods of projects may connect to, as `egress` of one, beside their own namespace, DNS and the
            operator. HTTPS by default, but not to link-local addresses, where clouds keep machines' credentials.
        resync_seconds: Seconds between two looks at what a watch would have told of.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    system_namespace: str = ""
    role: str = ""
    service_account: str = ""
    binding: str = "tunesmith-hosted"
    secrets: Path | None = None
    files_secret: str = ""
    pod_labels: dict[str, str] = {}
    account_annotations: dict[str, str] = {}
    quota: dict[str, str] = {}
    ingress: tuple[dict[str, Any], ...] = ()
    egress: tuple[dict[str, Any], ...] = (_HTTPS,)
    resync_seconds: Annotated[float, Field(gt=0)] = 30
