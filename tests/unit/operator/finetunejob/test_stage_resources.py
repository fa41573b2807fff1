"""What the pods of prepare and publish get: from `stages`, the plan, or `resources` where training has no GPUs."""

import pytest

from support.job_facts import SETTINGS, World
from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.work_folder import Stage
from tunesmith_operator.finetunejob.jobs import stage_job
from tunesmith_operator.finetunejob.planning import Planned

POOL, SKU = "kubernetes.azure.com/agentpool", "sku"
PLAN = {"stages": {"prepare": {"memory": "2Gi"}, "train": {"memory": "9Gi"}, "publish": {"memory": "6Gi"}}}
GPU = {"gpusPerNode": 2, "nodePool": "gpu", "spot": True, "tolerations": [{"key": "team", "operator": "Exists"}]}
CPU = {"nodePool": "cpu", "spot": True, "tolerations": [{"key": "team", "operator": "Exists"}]}


def pod(stage: Stage, plan: dict | None = PLAN, **spec) -> dict:
    world = World(spec)
    parsed = FineTuneJobSpec.model_validate(world.job["spec"])
    job = stage_job(world.job, Planned(parsed, plan), stage, 1, "tiny-work", SETTINGS, None)
    return job["spec"]["template"]["spec"]


def amounts(found: dict) -> dict:
    """Return CPU, memory, limit of memory and GPUs of a pod."""
    resources = found["containers"][0]["resources"]
    limits = resources.get("limits", {})
    gpus = {name: count for name, count in limits.items() if "/" in name}
    return {**resources["requests"], "limit": limits.get("memory"), **gpus}


def keys(found: dict) -> list[str]:
    return [item["key"] for item in found.get("tolerations", ())]


@pytest.mark.parametrize("stage", [Stage.PREPARE, Stage.PUBLISH])
def test_nothing_of_a_gpu_nodes_resources_reaches_the_other_stages(stage):
    resources = {**GPU, "cpu": "16", "memory": "64Gi", "nodeSelector": {"zone": "1"}}
    found = pod(stage, resources=resources)
    memory = PLAN["stages"][stage.value]["memory"]
    assert amounts(found) == {"cpu": "250m", "memory": memory, "limit": memory}
    assert not {"nodeSelector", "tolerations", "affinity"} & set(found)
    assert "OMP_NUM_THREADS" not in {item["name"] for item in found["containers"][0]["env"]}


@pytest.mark.parametrize("stage", list(Stage))
def test_without_gpus_all_stages_run_on_the_same_nodes(stage):
    found = pod(stage, resources={**CPU, "cpu": "3"})
    assert found["nodeSelector"] == {POOL: "cpu"}
    assert keys(found) == ["team", "kubernetes.azure.com/scalesetpriority"]
    assert "affinity" in found
    assert amounts(found)["cpu"] == "3"
    assert {"name": "OMP_NUM_THREADS", "value": "3"} in found["containers"][0]["env"]


def test_memory_comes_from_the_stage_then_from_the_plan_then_from_resources():
    given = {"publish": {"memory": "20Gi"}}
    assert amounts(pod(Stage.PUBLISH, stages=given))["limit"] == "20Gi"
    assert amounts(pod(Stage.PUBLISH, resources={"memory": "8Gi"}))["limit"] == "6Gi"
    assert amounts(pod(Stage.PUBLISH, None, resources={"memory": "8Gi"}))["limit"] == "8Gi"
    assert amounts(pod(Stage.PUBLISH, None, resources={**GPU, "memory": "8Gi"})) == {
        "cpu": "250m", "memory": "512Mi", "limit": None,
    }  # fmt: skip
    assert amounts(pod(Stage.PREPARE, None)) == {"cpu": "250m", "memory": "4Gi", "limit": None}
    assert amounts(pod(Stage.TRAIN)) == {"cpu": "250m", "memory": "9Gi", "limit": None}
    assert amounts(pod(Stage.TRAIN, resources={"memory": "8Gi"}))["limit"] == "8Gi"


# Resources, what `stages.publish` says, the node selector and the tolerations of publish.
PLACES = {
    "other nodes": (CPU, {"nodeSelector": {"disk": "ssd"}}, {"disk": "ssd"}, ["team"]),
    "any node": (CPU, {"nodeSelector": {}, "tolerations": []}, {}, []),
    "other taints": (
        CPU, {"tolerations": [{"key": "other"}]}, {POOL: "cpu"}, ["other", "kubernetes.azure.com/scalesetpriority"],
    ),
    "nodes of its own beside GPUs": (GPU, {"nodeSelector": {"disk": "ssd"}}, {"disk": "ssd"}, []),
    "a GPU of those of training": (
        GPU, {"gpus": 1}, {POOL: "gpu"}, ["team", SKU, "nvidia.com/gpu", "kubernetes.azure.com/scalesetpriority"],
    ),
    "a GPU of other nodes": (
        GPU, {"gpus": 1, "nodeSelector": {"pool": "l4"}, "tolerations": []}, {"pool": "l4"}, [SKU, "nvidia.com/gpu"],
    ),
    "a GPU after training on CPUs": (
        CPU, {"gpus": 1, "nodeSelector": {"pool": "l4"}}, {"pool": "l4"}, ["team", SKU, "nvidia.com/gpu"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("resources", "publish", "selector", "tolerated"), PLACES.values(), ids=PLACES)
def test_a_stage_says_where_it_runs(resources, publish, selector, tolerated):
    found = pod(Stage.PUBLISH, resources=resources, stages={"publish": publish})
    assert found.get("nodeSelector", {}) == selector
    assert keys(found) == tolerated
    assert ("affinity" in found) == ("nodeSelector" not in publish and bool({POOL} & set(selector)))
    assert amounts(found).get("nvidia.com/gpu") == (str(publish["gpus"]) if "gpus" in publish else None)
    # The other stages are not concerned.
    assert pod(Stage.TRAIN, resources=resources, stages={"publish": publish}) == pod(Stage.TRAIN, resources=resources)
    assert (
        pod(Stage.PREPARE, resources=resources, stages={"publish": publish})["containers"][0]["resources"]
        == (pod(Stage.PREPARE, resources=resources)["containers"][0]["resources"])
    )


def test_threads_follow_the_cpus_of_the_stage():
    found = pod(Stage.PUBLISH, resources=GPU, stages={"publish": {"cpu": "3500m"}})
    assert amounts(found)["cpu"] == "3500m"
    assert {"name": "OMP_NUM_THREADS", "value": "4"} in found["containers"][0]["env"]


def test_gpus_of_publish_are_those_of_the_resource():
    found = pod(Stage.PUBLISH, resources={**GPU, "resourceName": "amd.com/gpu"}, stages={"publish": {"gpus": 1}})
    assert amounts(found)["amd.com/gpu"] == "1"
    assert keys(found)[1:4] == [SKU, "nvidia.com/gpu", "amd.com/gpu"]
