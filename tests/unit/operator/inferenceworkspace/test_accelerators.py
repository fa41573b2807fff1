"""Servers that compute on devices: what their pods ask for, where they may run, and why they wait."""

from support.workspaces import DIGEST, a_job, a_workspace, child, decided
from tunesmith_api.objects import InferenceWorkspaceSpec
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.inferenceworkspace.failures import problem_of
from tunesmith_operator.inferenceworkspace.model import Target
from tunesmith_operator.inferenceworkspace.pod import pod_spec


def a_gpu_job(precisions=("fp16",)):
    job = a_job("job-a", DIGEST["a"])
    job["spec"] = {"export": {"precisions": list(precisions)}}
    return job


def pod_of(provider, job=None, runtime=None, **resources):
    workspace = a_workspace(runtime={"executionProvider": provider, **(runtime or {})}, resources=resources)
    deployment = child(decided(workspace, job or a_gpu_job()), "Deployment")
    assert deployment is not None
    return deployment["spec"]["template"]["spec"]


def test_a_server_asks_for_its_device_and_tolerates_the_taints_of_such_nodes():
    own = {"key": "team", "operator": "Exists"}
    pod = pod_of("cuda", memory="8Gi", nodeSelector={"pool": "gpu"}, tolerations=[own])
    (server,) = pod["containers"]
    assert server["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": "1"}
    assert "nvidia.com/gpu" not in server["resources"]["requests"]
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert [item["key"] for item in pod["tolerations"]] == ["team", "sku", "nvidia.com/gpu"]


def test_a_server_on_the_cpu_asks_for_none():
    for provider in ("cpu", "openvino"):
        pod = pod_of(provider, a_gpu_job(["int4"]))
        assert "limits" not in pod["containers"][0]["resources"]
        assert "tolerations" not in pod


def test_the_server_is_told_its_provider_and_options():
    options = {"gpu_mem_limit": "1000", "device_id": "0"}
    arguments = pod_of("cuda", runtime={"providerOptions": options})["containers"][0]["args"]
    assert arguments[-2:] == ["--execution-provider", "cuda"]
    assert arguments[arguments.index("--provider-options") + 1] == '{"device_id": "0", "gpu_mem_limit": "1000"}'

    from tunesmith_serving.process.options import build_parser
    from tunesmith_serving.runtime.config import ServingConfig

    given = {name: value for name, value in vars(build_parser().parse_args(arguments)).items() if value is not None}
    del given["artifact"]
    config = ServingConfig(**given)
    assert (config.execution_provider, config.provider_options) == ("cuda", options)


def test_what_is_fetched_from_a_store_fits_the_provider():
    from tunesmith_trainer.storage.__main__ import main  # the command that takes these options

    pod = pod_of(
        "cuda", a_job("job-a", DIGEST["a"], uri="s3://bucket/a") | {"spec": {"export": {"precisions": ["bf16"]}}}
    )
    (fetch,) = pod["initContainers"]
    assert fetch["args"][-4:] == ["--precision", "smallest", "--execution-provider", "cuda"]
    assert main(["fetch", "/nowhere", "/nowhere/else", *fetch["args"][-4:]]) != 2


def test_each_provider_may_have_an_image_of_its_own():
    settings = OperatorSettings(serving_images={"cuda": "registry/serving-cuda:1"})
    images = {}
    for provider in ("cpu", "cuda", "migraphx"):
        spec = InferenceWorkspaceSpec.model_validate(
            {"model": {"fineTuneJob": "job-a"}, "runtime": {"executionProvider": provider}}
        )
        pod = pod_spec(a_workspace(), spec, Target("pvc://a/b"), settings, secret=None, one_node=None)
        images[provider] = pod["containers"][0]["image"]
    default = settings.serving_image
    assert images == {"cpu": default, "cuda": "registry/serving-cuda:1", "migraphx": default}


def test_the_images_come_from_the_environment(monkeypatch):
    read = OperatorSettings.from_environment({"TUNESMITH_SERVING_IMAGES": '{"openvino": "a:1"}'})
    assert read.serving_image_of("openvino") == "a:1"
    try:
        OperatorSettings.from_environment({"TUNESMITH_SERVING_IMAGES": '{"rocm": "a:1"}'})
    except ValueError as error:
        assert "rocm is no execution provider; write one of cpu, cuda" in str(error)
    else:
        raise AssertionError("an unknown provider was taken")


def test_a_job_that_exports_nothing_for_the_device_is_told():
    decision = decided(a_workspace(runtime={"executionProvider": "cuda"}), a_gpu_job(["int4"]))
    ready = next(item for item in decision.status["conditions"] if item["type"] == "Ready")
    assert ready["reason"] == "InvalidArtifact"
    assert "holds only int4, which the execution provider cuda cannot compute; add fp16" in ready["message"]


def test_a_pod_that_waits_for_a_device_says_which():
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    problem = problem_of({"metadata": {"name": "p"}, "status": {"phase": "Pending", "conditions": [condition]}})
    assert problem is not None
    assert problem.reason == "Unschedulable"
    assert "A server needs a free nvidia.com/gpu, and a rollout one more" in problem.remedy
    condition["message"] = "0/3 nodes are available: 3 Insufficient memory."
    problem = problem_of({"metadata": {"name": "p"}, "status": {"phase": "Pending", "conditions": [condition]}})
    assert problem is not None
    assert problem.remedy.startswith("Add nodes or free some")
