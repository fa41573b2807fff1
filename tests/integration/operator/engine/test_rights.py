"""A request that the operator has no right to is counted as that, and no other refusal is."""

import asyncio
from pathlib import Path

import pytest

from cluster.client import Cluster
from support.rights import kubeconfig_of
from tunesmith_operator.engine.kube.api_errors import ApiError
from tunesmith_operator.engine.kube.client import APPLY, KubeClient
from tunesmith_operator.engine.metrics import Metrics

pytestmark = pytest.mark.integration

DENIED = "tunesmith_api_denied_total"
LABELS = {"verb": "patch", "resource": "configmaps"}


async def refused(metrics: Metrics, namespace: str) -> ApiError:
    """Apply a ConfigMap, and return why not."""
    client = await KubeClient.connect(metrics.requests)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {}}
    path = f"/api/v1/namespaces/{namespace}/configmaps/a"
    try:
        with pytest.raises(ApiError) as caught:
            await client.request("PATCH", path, query={"fieldManager": "test"}, body=body, content_type=APPLY)
    finally:
        await client.close()
    assert caught.value.status == 403
    return caught.value


def test_no_right(cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [("", ["configmaps"], ["get", "list"])]
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig_of(cluster, namespace, rules, tmp_path / "kubeconfig")))
    metrics = Metrics()
    asyncio.run(refused(metrics, namespace))
    assert metrics.registry.get_sample_value(DENIED, LABELS) == 1


def test_a_namespace_that_ends(cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    holds = {"name": "holds", "finalizers": ["test.tunesmith.dev/holds"]}
    cluster.apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": holds}], namespace)
    cluster.run("delete", "namespace", namespace, "--wait=false")
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    metrics = Metrics()
    try:
        assert "being terminated" in asyncio.run(refused(metrics, namespace)).message
        assert metrics.registry.get_sample_value("tunesmith_api_requests_total", {**LABELS, "code": "403"}) == 1
        assert metrics.registry.get_sample_value(DENIED, LABELS) is None
    finally:
        cluster.run(
            "patch", "configmap", "holds", "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
        )
