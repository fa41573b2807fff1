"""On which node a server on a GPU runs, by the real scheduler: nodes are declared and run nothing."""

import uuid
from collections.abc import Iterator

import pytest

from cluster.client import Cluster
from support.cluster_facts import GPU, add_node, beat, cordoned
from support.workspace_operator import Around, workspace_operator

pytestmark = pytest.mark.e2e

TAINT = {"key": GPU, "value": "present", "effect": "NoSchedule"}
RUNTIME = {"executionProvider": "cuda", "precision": "fp16"}
STORED = {"uri": "s3://bucket/faq"}  # so that no pod waits for a volume


@pytest.fixture
def gpu_node(cluster: Cluster, namespace: str, alone: None) -> Iterator[str]:
    """A node with one GPU and the taint that keeps others away; the cluster's own takes no pods meanwhile."""
    if cluster.find("Node", "tunesmith") is None:
        pytest.skip("declares nodes, which only the embedded cluster is for")
    name = f"gpu-{uuid.uuid4().hex[:6]}"
    with cordoned(cluster):
        try:
            add_node(cluster, name, taints=[TAINT], capacity={GPU: "1"})
            yield name
        finally:
            for pod in cluster.list("Pod", namespace):
                cluster.delete("Pod", pod["metadata"]["name"], namespace, grace=0)
            cluster.delete("Node", name)


def test_a_server_runs_where_a_gpu_is_free_and_the_next_one_says_what_is_missing(
    cluster: Cluster, namespace: str, gpu_node: str
) -> None:
    with workspace_operator(cluster, namespace):
        around = Around(cluster, namespace)
        around.workspace("first", model=STORED, runtime=RUNTIME)
        labels = "tunesmith.dev/owner-name=first"
        beat(cluster, gpu_node)
        (pod,) = cluster.wait_all("Pod", lambda pods: [p for p in pods if p["spec"].get("nodeName")], namespace, labels)
        assert pod["spec"]["nodeName"] == gpu_node
        around.workspace("second", model=STORED, runtime=RUNTIME)
        status = around.status("Unschedulable", f"A server needs a free {GPU}", "Unknown", name="second")
        (ready,) = (item for item in status["conditions"] if item["type"] == "Ready")
        assert f"Insufficient {GPU}" in ready["message"]
