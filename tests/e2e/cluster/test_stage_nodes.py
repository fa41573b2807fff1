"""On which nodes the stages of a GPU job run, by the real scheduler: nodes of 16 GB without a GPU, and one with a GPU.

The nodes are declared and run nothing: what a kubelet would say of their pods is written into the pods' status.
"""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.client import Cluster
from support.cluster_facts import GPU, add_node, beat, cordoned
from support.fake_kubelet import RESULTS, finished, running
from support.hub_mirror import HubMirror
from support.manifests import config_map, job
from support.model_configs import PHI_3_MINI, write_configs
from support.operator import ended
from support.operator_process import operator
from tunesmith_api.spec.quantity import amount

pytestmark = pytest.mark.e2e

Object = dict
MODEL = {"uri": "hf://microsoft/phi-3-mini"}
STORE = {"uri": "s3://bucket/work"}  # so that no pod waits for a volume of a node that runs nothing
SKU = {"key": "sku", "value": "gpu", "effect": "NoSchedule"}


@dataclass(frozen=True)
class Nodes:
    """The nodes of a test."""

    cpu: tuple[str, str]
    gpu: str


@pytest.fixture
def nodes(cluster: Cluster, namespace: str, alone: None) -> Iterator[Nodes]:
    """Two nodes of 16 GB, of which a pod gets 14Gi, and one with a GPU; the cluster's own takes no pods meanwhile."""
    if cluster.find("Node", "tunesmith") is None:
        pytest.skip("declares nodes, which only the embedded cluster is for")
    key = uuid.uuid4().hex[:6]
    found = Nodes((f"cpu-a-{key}", f"cpu-b-{key}"), f"gpu-{key}")
    with cordoned(cluster):
        try:
            for name in found.cpu:
                add_node(cluster, name, capacity={"cpu": "4", "memory": "14Gi"})
            product = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}
            add_node(cluster, found.gpu, product, [SKU], {"cpu": "24", "memory": "200Gi", GPU: "1"})
            yield found
        finally:
            for pod in cluster.list("Pod", namespace):
                cluster.delete("Pod", pod["metadata"]["name"], namespace, grace=0)
            for name in (*found.cpu, found.gpu):
                cluster.delete("Node", name)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[HubMirror]:
    write_configs(tmp_path, {"microsoft/phi-3-mini": PHI_3_MINI})
    with HubMirror(tmp_path).serving() as hub:
        yield hub


def placed(cluster: Cluster, namespace: str, stage: str) -> Object:
    """Wait until the scheduler has found a node for the pod of a stage, and return the pod."""

    def bound(pods: list[Object]) -> list[Object]:
        return [pod for pod in pods if pod["spec"].get("nodeName")]

    return bound(cluster.wait_all("Pod", bound, namespace, labels=f"tunesmith.dev/stage={stage}"))[0]


def test_prepare_and_publish_of_a_gpu_job_run_on_small_nodes(
    cluster: Cluster, namespace: str, nodes: Nodes, mirror: HubMirror
) -> None:
    resources = {"gpusPerNode": 1, "memory": "64Gi", "gpu": {"product": "NVIDIA-A100-SXM4-80GB"}}
    with operator(cluster, namespace, hub_endpoint=mirror.endpoint):
        cluster.create(config_map(), namespace)
        cluster.create(job(model=MODEL, method="lora", resources=resources, storage=STORE), namespace)
        where, limits = {}, {}
        for stage in ("prepare", "train", "publish"):
            beat(cluster, *nodes.cpu, nodes.gpu)
            pod = placed(cluster, namespace, stage)
            where[stage] = pod["spec"]["nodeName"]
            limits[stage] = pod["spec"]["containers"][0]["resources"]["limits"]
            words = json.dumps({"reason": "Completed", "message": "", "remedy": "", "result": RESULTS[stage]})
            for status in (running(pod), finished(pod, message=words)):
                cluster.patch("Pod", pod["metadata"]["name"], {"status": status}, namespace, "status")
        status = ended(cluster, namespace, "tiny")["status"]
    assert status["phase"] == "Succeeded"
    assert where["prepare"] in nodes.cpu
    assert where["train"] == nodes.gpu
    assert where["publish"] in nodes.cpu
    assert limits["train"] == {"memory": "64Gi", GPU: "1"}
    for stage in ("prepare", "publish"):
        assert limits[stage].keys() == {"memory"}
        assert amount(limits[stage]["memory"]) == amount(status["plan"]["stages"][stage]["memory"])
        assert status["resolved"][f"stages.{stage}.memory"]["value"] == status["plan"]["stages"][stage]["memory"]


def test_a_stage_that_asks_for_more_than_its_nodes_have_says_which(
    cluster: Cluster, namespace: str, nodes: Nodes, mirror: HubMirror
) -> None:
    stages = {"prepare": {"memory": "64Gi"}}
    with operator(cluster, namespace, hub_endpoint=mirror.endpoint):
        cluster.create(config_map(), namespace)
        spec = {"model": MODEL, "method": "lora", "resources": {"gpusPerNode": 1}, "storage": STORE, "stages": stages}
        cluster.create(job(**spec), namespace)
        found = cluster.wait("FineTuneJob", "tiny", is_unschedulable, namespace)
    message = next(item["message"] for item in found["status"]["conditions"] if item["type"] == "Ready")
    assert "ask for less under stages.prepare" in message


def is_unschedulable(obj: Object) -> bool:
    conditions = obj.get("status", {}).get("conditions", ())
    return any(item["reason"] == "Unschedulable" for item in conditions)
