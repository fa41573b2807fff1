"""The Service of a workspace, and its PodDisruptionBudget."""

from __future__ import annotations

from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.inferenceworkspace.metadata import metadata_of, selector_of


def service(workspace: KubeObject) -> KubeObject:
    """Return the Service: port 80 to the servers that are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata_of(workspace),
        "spec": {
            "type": "ClusterIP",
            "selector": selector_of(workspace),
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def endpoint(workspace: KubeObject, settings: OperatorSettings) -> str:
    """Return the base URL for an OpenAI client in the cluster."""
    metadata = workspace["metadata"]
    return f"http://{metadata['name']}.{metadata['namespace']}.svc.{settings.cluster_domain}/v1"


def disruption_budget(workspace: KubeObject) -> KubeObject:
    """Return the PodDisruptionBudget: a node is drained one server at a time, and those that are not ready at once."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata_of(workspace),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector_of(workspace)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
