"""Which precisions an execution provider computes, which options it takes, and how a workspace asks for devices."""

from typing import get_args

import pytest
from pydantic import ValidationError

from tunesmith_api.manifests import load_manifests
from tunesmith_api.objects import InferenceWorkspaceSpec
from tunesmith_api.spec.execution_providers import EXECUTION_PROVIDERS, ExecutionProvider
from tunesmith_api.spec.runtime import ServedPrecision, cannot_serve, servable, served_precision

ALL = get_args(ServedPrecision)


def spec(provider, options=None, **resources):
    runtime = {"executionProvider": provider, **({"providerOptions": options} if options else {})}
    given = {"model": {"fineTuneJob": "job-a"}, "runtime": runtime, "resources": resources}
    return InferenceWorkspaceSpec.model_validate(given)


def test_every_provider_is_described():
    assert set(EXECUTION_PROVIDERS) == set(get_args(ExecutionProvider))
    for info in EXECUTION_PROVIDERS.values():
        assert set(info.precisions) <= set(ALL)
        for _, precisions in info.by_task:
            # What a server takes that knows no task is then also what it takes that knows it.
            assert [p for p in info.precisions if p in precisions] == list(precisions)


@pytest.mark.parametrize(
    ("provider", "task", "expected"),
    [
        ("cpu", None, ["int4", "int8", "fp32"]),
        ("cpu", "textGeneration", ["int4", "int8", "fp32"]),
        ("openvino", "textGeneration", ["int4", "int8", "fp32"]),
        ("cuda", "textGeneration", ["fp16", "bf16"]),
        ("cuda", "translation", ["fp16", "bf16", "int4", "fp32"]),
        ("tensorrt", "sequenceClassification", ["fp16", "bf16", "int4", "fp32"]),
        ("migraphx", "textGeneration", ["fp16"]),
    ],
)
def test_what_is_servable(provider, task, expected):
    assert servable(ALL, provider, task) == expected
    assert served_precision(ALL, None, provider, task) == expected[0]
    assert served_precision(["fp8"], None, provider, task) is None


def test_what_cannot_be_served_says_what_to_export():
    assert cannot_serve(["int4"], "cuda", "textGeneration") == (
        "holds only int4, which the execution provider cuda cannot compute; add fp16 to its job's "
        "export.precisions, or choose another spec.runtime.executionProvider"
    )


@pytest.mark.parametrize(
    ("provider", "given", "devices"),
    [
        ("cpu", {}, {}),
        ("cuda", {}, {"nvidia.com/gpu": 1}),
        ("tensorrt", {"accelerators": 2}, {"nvidia.com/gpu": 2}),
        ("cuda", {"resourceName": "nvidia.com/mig-1g.10gb"}, {"nvidia.com/mig-1g.10gb": 1}),
        ("migraphx", {}, {"amd.com/gpu": 1}),
        ("cann", {}, {"huawei.com/Ascend910": 1}),
        ("vitisai", {"resourceName": "amd.com/xilinx_u50"}, {"amd.com/xilinx_u50": 1}),
        ("openvino", {}, {}),
        ("openvino", {"options": {"device_type": "GPU"}, "accelerators": 1}, {"gpu.intel.com/i915": 1}),
    ],
)
def test_the_devices_of_a_server(provider, given, devices):
    options = given.pop("options", None)
    assert spec(provider, options, **given).resources.devices(provider) == devices


@pytest.mark.parametrize(
    ("provider", "options", "resources"),
    [
        ("cpu", None, {"accelerators": 1}),
        ("cpu", None, {"resourceName": "nvidia.com/gpu"}),
        ("cpu", {"device_id": "0"}, {}),
        ("cuda", None, {"accelerators": 0}),
        ("cuda", {"user_compute_stream": "1"}, {}),
        ("openvino", {"hint_enable_gqa": "true"}, {}),
        ("openvino", {"device_type": "NPU"}, {}),
        ("openvino", None, {"accelerators": 1}),
        ("vitisai", None, {}),
    ],
)
def test_what_does_not_fit_is_refused(provider, options, resources):
    with pytest.raises(ValidationError):
        spec(provider, options, **resources)


def test_options_of_a_provider_whose_options_are_not_known_are_passed_on():
    asked = spec("vitisai", {"config_file": "/etc/vaip.json"}, resourceName="amd.com/xilinx_u50")
    assert asked.runtime.provider_options == {"config_file": "/etc/vaip.json"}


@pytest.mark.parametrize(
    ("exported", "runtime", "said", "remedy"),
    [
        ("[fp16]", "executionProvider: cuda", "", ""),
        ("[int4]", "executionProvider: cuda", "exports nothing that the provider cuda can compute", "fp16"),
        ("[int4]", "{executionProvider: cuda, precision: fp16}", "which FineTuneJob faq does not export", "fp16"),
        (
            "[int4]",
            "batchPrecision: int8",
            "which FineTuneJob faq does not export",
            "add int8 to its export.precisions",
        ),
        ("[int4, int8]", "batchPrecision: int8", "", ""),
        ("[int4]", "executionProvider: openvino", "", ""),
        ("[int4], kvCache: int8", "executionProvider: cpu", "", ""),
        ("[int4], kvCache: int8", "executionProvider: openvino", "openvino, which cannot keep keys and values", "cpu"),
    ],
)
def test_a_workspace_and_its_job_fit_together(tmp_path, exported, runtime, said, remedy):
    (tmp_path / "all.yaml").write_text(
        f"""apiVersion: tunesmith.dev/v1alpha1
kind: FineTuneJob
metadata: {{name: faq}}
spec:
  model: {{scratch: {{}}}}
  method: full
  dataset: {{sources: [{{uri: ./rows.jsonl}}]}}
  export: {{precisions: {exported}}}
---
apiVersion: tunesmith.dev/v1alpha1
kind: InferenceWorkspace
metadata: {{name: faq}}
spec:
  model: {{fineTuneJob: faq}}
  runtime: {runtime if runtime.startswith("{") else "{" + runtime + "}"}
"""
    )
    (tmp_path / "rows.jsonl").write_text("{}\n")
    found = [finding for finding in load_manifests([tmp_path / "all.yaml"]).findings if "rows" not in str(finding)]
    assert len(found) == bool(said), found
    if said:
        assert said in found[0].message
        assert remedy in found[0].remedy
