"""Labels and owner references of a workspace's children."""

from __future__ import annotations

import hashlib
from typing import Any

from tunesmith_api.objects.metadata import API_VERSION
from tunesmith_operator.engine.labels import OWNER_KIND, OWNER_NAME, OWNER_UID
from tunesmith_operator.engine.reconciler import KubeObject

REVISION = "tunesmith.dev/revision"
"""Label of the pods: the revision of the artifact that they serve."""
TEMPLATE = "tunesmith.dev/template"
"""Label of the pods: a hash of their template, which separates new pods from old ones."""


def labels_of(workspace: KubeObject) -> dict[str, str]:
    """Return the labels of a workspace's children."""
    metadata = workspace["metadata"]
    return {
        "app.kubernetes.io/name": "tunesmith-serving",
        "app.kubernetes.io/instance": metadata["name"],
        "app.kubernetes.io/managed-by": "tunesmith",
        OWNER_UID: metadata["uid"],
        OWNER_KIND: "InferenceWorkspace",
        OWNER_NAME: metadata["name"],
    }


def claim_label(claim: str) -> dict[str, str]:
    """Return the label of pods that mount a claim which only one node can mount."""
    return {"tunesmith.dev/claim": hashlib.sha256(claim.encode()).hexdigest()[:10]}


def selector_of(workspace: KubeObject) -> dict[str, str]:
    """Return the labels by which a workspace's pods are selected; they never change."""
    return {OWNER_UID: workspace["metadata"]["uid"]}


def metadata_of(workspace: KubeObject) -> dict[str, Any]:
    """Return the metadata of a child, which has its workspace's name and is deleted with it."""
    owner = workspace["metadata"]
    return {
        "name": owner["name"],
        "namespace": owner["namespace"],
        "labels": labels_of(workspace),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": "InferenceWorkspace",
                "name": owner["name"],
                "uid": owner["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
