"""The Service of a workspace, and its PodDisruptionBudget."""

from __future__ import annotations

from tunesmith_api.tasks import base_path
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


def endpoint(workspace: KubeObject, settings: OperatorSettings, task: str | None) -> str:
    """Return the base URL for clients in the cluster.

    Args:
        workspace: The InferenceWorkspace.
        settings: The domain of the cluster.
        task: The task of the model; None if it is not known.
    """
    metadata = workspace["metadata"]
    return f"http://{metadata['name']}.{metadata['namespace']}.svc.{settings.cluster_domain}{base_path(task)}"


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
