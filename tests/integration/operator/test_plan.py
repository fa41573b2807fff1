"""Plans on a real API server: what cannot fit is refused before any Job, what is left open is chosen."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.client import Cluster, condition
from cluster.requests import ApiError
from support.fake_kubelet import RESULTS, finished, running
from support.hub_mirror import HubMirror
from support.manifests import config_map, job
from support.model_configs import LLAMA_8B, QWEN_05B, write_configs
from support.operator import ended
from support.operator_process import operator
from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.planner import DataShape, ModelShape, Plan, choose, parse_machines
from tunesmith_api.spec.quantity import amount

pytestmark = pytest.mark.integration

Object = dict
MACHINES = [
    {"name": "t4", "gpu": "Tesla-T4", "gpus": 1, "cpus": 4, "memory": "24Gi", "pricePerHour": 0.6},
    {
        "name": "a100x4", "gpu": "NVIDIA-A100-SXM4-80GB", "gpus": 4, "cpus": 96, "memory": "800Gi", "pricePerHour": 16,
        "nodeSelector": {"example.com/pool": "a100"}, "tolerations": [{"key": "team", "value": "search"}],
    },
]  # fmt: skip


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[HubMirror]:
    write_configs(tmp_path, {"meta/llama": LLAMA_8B, "qwen/half": QWEN_05B})
    with HubMirror(tmp_path).serving() as hub:
        yield hub


@pytest.fixture
def planned(cluster: Cluster, namespace: str, mirror: HubMirror) -> Iterator[str]:
    """A namespace that an operator with a hub and a table of machines watches."""
    with operator(cluster, namespace, hub_endpoint=mirror.endpoint, machines=json.dumps(MACHINES)):
        yield namespace


def create(cluster: Cluster, namespace: str, name: str = "tiny", **spec) -> Object:
    cluster.create(config_map(name), namespace)
    return cluster.create(job(name, **spec), namespace)


def pod(cluster: Cluster, namespace: str, job_name: str) -> Object:
    labels = f"batch.kubernetes.io/job-name={job_name}"
    return cluster.wait_all("Pod", lambda pods: pods, namespace, labels=labels)[0]


def succeed(cluster: Cluster, namespace: str, stage: str, **result) -> Object:
    """Let a stage's pod succeed as a kubelet would say it, and return the pod."""
    found = pod(cluster, namespace, f"tiny-{stage}-1")
    words = {"reason": "Completed", "message": "", "remedy": "", "result": {**RESULTS[stage], **result}}
    for status in (running(found), finished(found, message=json.dumps(words))):
        cluster.patch("Pod", found["metadata"]["name"], {"status": status}, namespace, "status")
    return found


def resources(found: Object) -> Object:
    return found["spec"]["containers"][0]["resources"]


def test_what_does_not_fit_is_refused_before_a_job_or_a_pod_exists(cluster: Cluster, planned: str, mirror: HubMirror):
    gpu = {"gpusPerNode": 1, "gpu": {"product": "Tesla-T4"}}
    create(cluster, planned, model={"uri": "hf://meta/llama"}, method="lora", resources=gpu)
    status = ended(cluster, planned, "tiny")["status"]
    assert status["phase"] == "Failed"
    assert "attempts" not in status  # no stage was ever started
    ready = condition({"status": status}, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "DoesNotFit")
    assert condition({"status": status}, "Stalled")["status"] == "True"
    assert "Tesla-T4 has 15Gi" in ready["message"]
    assert "resources: {machine: a100x4}" in ready["message"]
    for kind in ("Job", "Pod", "PersistentVolumeClaim", "Service"):
        assert cluster.list(kind, planned, labels="tunesmith.dev/owner-name=tiny") == []
    assert mirror.requests == ["GET /meta/llama/resolve/main/config.json"]


def test_what_is_left_open_is_what_the_planner_says(cluster: Cluster, planned: str):
    training = {"globalBatchSize": 8, "maxLength": 1024, "maxSteps": 100}
    made = create(
        cluster, planned, model={"uri": "hf://meta/llama"}, method="full", training=training,
        resources={"machine": "auto"},
    )  # fmt: skip
    spec = FineTuneJobSpec.model_validate(made["spec"])
    expected = choose(spec, ModelShape.from_config(LLAMA_8B), DataShape(), parse_machines(MACHINES))
    assert isinstance(expected, Plan)
    prepare = pod(cluster, planned, "tiny-prepare-1")
    status = cluster.get("FineTuneJob", "tiny", planned)["status"]
    # The API server keeps every field.
    assert status["plan"] == expected.to_status()
    assert status["plan"]["machine"] == "a100x4"
    assert status["plan"]["strategy"].startswith("zero")  # plain torch would not fit
    assert status["resolved"]["resources.machine"]["value"] == "a100x4"
    needs = status["plan"]["stages"]
    claim = cluster.get("PersistentVolumeClaim", "tiny-work", planned)
    size = claim["spec"]["resources"]["requests"]["storage"]
    assert float(size.removesuffix("Gi")) >= float(needs["publish"]["disk"].removesuffix("Gi")) > 20
    assert amount(resources(prepare)["limits"]["memory"]) == amount(needs["prepare"]["memory"])
    succeed(cluster, planned, "prepare", plan=status["plan"], measured={"memory": "2.5Gi", "seconds": 31.5})
    train = pod(cluster, planned, "tiny-train-1")
    assert train["spec"]["nodeSelector"] == {"example.com/pool": "a100"}
    assert resources(train)["limits"] == {"nvidia.com/gpu": "4"}
    assert amount(resources(train)["requests"]["memory"]) == amount(needs["train"]["memory"])
    measured = {"memory": "90Gi", "gpuMemory": "60.5Gi", "seconds": 99.5, "secondsPerStep": 0.7}
    succeed(cluster, planned, "train", measured=measured)
    publish = succeed(cluster, planned, "publish", measured={"memory": "20Gi", "seconds": 60.0})
    assert amount(resources(publish)["limits"]["memory"]) == amount(needs["publish"]["memory"])
    status = ended(cluster, planned, "tiny")["status"]
    assert status["phase"] == "Succeeded"
    assert status["plan"] == expected.to_status()
    assert status["measured"] == {
        "prepare": {"memory": "2.5Gi", "seconds": 31.5}, "train": measured,
        "publish": {"memory": "20Gi", "seconds": 60},
    }  # fmt: skip


def test_a_plan_that_only_prepare_can_make_refuses_before_a_gpu_is_asked_for(cluster: Cluster, planned: str):
    create(cluster, planned, model={"uri": "s3://bucket/model"}, method="lora", resources={"machine": "t4"})
    found = pod(cluster, planned, "tiny-prepare-1")
    assert resources(found) == {"requests": {"cpu": "250m", "memory": "4Gi"}}
    assert "plan" not in cluster.get("FineTuneJob", "tiny", planned)["status"]
    succeed(cluster, planned, "prepare", plan={"stages": {"train": {"memory": "9Gi", "gpuMemory": "20Gi"}}})
    status = ended(cluster, planned, "tiny")["status"]
    assert condition({"status": status}, "Ready")["reason"] == "DoesNotFit"
    assert [item["metadata"]["name"] for item in cluster.list("Job", planned)] == ["tiny-prepare-1"]


def test_a_hub_that_is_down_stops_no_job(cluster: Cluster, planned: str, mirror: HubMirror):
    mirror.status = 503
    create(cluster, planned, model={"uri": "hf://qwen/half"}, method="lora")
    found = pod(cluster, planned, "tiny-prepare-1")
    assert resources(found)["requests"]["memory"] == "4Gi"
    given = {item["name"]: item.get("value") for item in found["spec"]["containers"][0]["env"]}
    assert given["HF_ENDPOINT"] == mirror.endpoint


def test_what_publish_gets_can_be_raised_when_it_was_too_little(cluster: Cluster, planned: str):
    create(cluster, planned, stages={"publish": {"memory": "1Gi"}})
    for stage in ("prepare", "train"):
        succeed(cluster, planned, stage)
    killed = pod(cluster, planned, "tiny-publish-1")
    for status in (running(killed), finished(killed, 137, reason="OOMKilled")):
        cluster.patch("Pod", killed["metadata"]["name"], {"status": status}, planned, "status")
    status = ended(cluster, planned, "tiny")["status"]
    message = condition({"status": status}, "Ready")["message"]
    assert "1Gi of its limit (stages.publish.memory). Raise stages.publish.memory, and apply" in message
    cluster.patch("FineTuneJob", "tiny", {"spec": {"stages": {"publish": {"memory": "8Gi"}}}}, planned)
    again = pod(cluster, planned, "tiny-publish-2")
    assert resources(again)["limits"] == {"memory": "8Gi"}
    with pytest.raises(ApiError, match="resources does not change once the job is created"):
        cluster.patch("FineTuneJob", "tiny", {"spec": {"resources": {"memory": "8Gi"}}}, planned)


@pytest.mark.parametrize("beside", [{"gpusPerNode": 1}, {"instanceType": "x"}, {"nodePool": "x"}])
def test_a_machine_stands_alone(cluster: Cluster, namespace: str, beside: Object):
    with pytest.raises(ApiError, match="machine says which GPUs and nodes a job gets"):
        cluster.create(job(resources={"machine": "auto", **beside}), namespace)
    cluster.create(job(resources={"machine": "auto", "memory": "8Gi", "nodes": 1}), namespace)
