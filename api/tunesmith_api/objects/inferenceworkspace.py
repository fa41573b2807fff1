"""The InferenceWorkspace: what to serve, and what is being served."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith_api.objects.cluster_only import ClusterOnly
from tunesmith_api.objects.metadata import ApiObject, StatusModel
from tunesmith_api.objects.pod_template import Labels, PodTemplateSpec, SecretKeyRef, Toleration
from tunesmith_api.objects.resources import RESOURCE_NAME
from tunesmith_api.objects.served_adapters import MAX_ADAPTERS, AdapterStatus, ServedAdapterSpec
from tunesmith_api.objects.served_model import JobSelector, ServedModelSpec
from tunesmith_api.objects.served_runtime import ServedRuntimeSpec
from tunesmith_api.objects.status_common import CommonStatus
from tunesmith_api.spec import Rule, SpecModel
from tunesmith_api.spec.execution_providers import CPU, EXECUTION_PROVIDERS
from tunesmith_api.spec.quantity import Cpu, Memory
from tunesmith_api.spec.runtime import RuntimeSpec

_SERVICE_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"


class ServingResources(SpecModel):
    """What each server gets, and where it runs."""

    cpu: Annotated[
        Cpu | None,
        Field(
            description='CPUs to ask for, for each server: 2, "0.5" or 500m; it runs as many threads. By default '
            "250m, and as many threads as the node has CPUs.",
            examples=["2"],
        ),
    ] = None
    memory: Annotated[
        Memory | None,
        Field(
            description="Memory of each server, as request and limit, with its unit: 4Gi. By default 512Mi are asked "
            "for, without a limit.",
            examples=["4Gi"],
        ),
    ] = None
    accelerators: Annotated[
        int | None,
        Field(
            ge=0,
            le=64,
            description="Devices of each server for its execution provider: GPUs, NPUs or FPGAs. A server computes on "
            "one; more are for device plugins that hand out parts of one. By default 1 where runtime.executionProvider "
            "needs a device, else 0.",
            examples=[1],
        ),
    ] = None
    resource_name: Annotated[
        str | None,
        Field(
            max_length=253,
            pattern=RESOURCE_NAME,
            description="Resource that stands for such a device on the nodes. By default nvidia.com/gpu for cuda and "
            "tensorrt, amd.com/gpu for migraphx, huawei.com/Ascend910 for cann, gpu.intel.com/i915 for openvino.",
            examples=["nvidia.com/gpu"],
        ),
    ] = None
    node_selector: Annotated[
        Labels | None,
        Field(description="Labels of the nodes to run on.", examples=[{"kubernetes.azure.com/agentpool": "serving"}]),
    ] = None
    tolerations: Annotated[
        tuple[Toleration, ...] | None,
        Field(
            max_length=32,
            description="Taints of nodes that do not keep the servers away.",
            examples=[[{"key": "sku", "operator": "Exists"}]],
        ),
    ] = None

    def devices(self, provider: str) -> dict[str, int]:
        """Return the devices of each server by their resource's name; none if its execution provider takes none."""
        info = EXECUTION_PROVIDERS[provider]
        count = int(info.needs_device) if self.accelerators is None else self.accelerators
        name = self.resource_name or info.resource
        return {name: count} if name and count else {}


class RolloutSpec(SpecModel):
    """How a new revision takes over: one server at a time, each old one leaving after a new one is ready."""

    progress_deadline_seconds: Annotated[
        int,
        Field(
            ge=30,
            le=86_400,
            description="Seconds without progress after which a rollout is given up; the old revision serves on.",
        ),
    ] = 600
    drain_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=600,
            description="Seconds that a server that is to end still takes requests, until all nodes and load "
            "balancers know that it leaves.",
        ),
    ] = 5
    shutdown_seconds: Annotated[
        int, Field(ge=1, le=86_400, description="Seconds that its running requests then have to finish.")
    ] = 60


class AuthSpec(SpecModel):
    """Who may ask."""

    api_key_secret_ref: Annotated[
        SecretKeyRef,
        Field(
            description="Key of a Secret whose content requests must send as `Authorization: Bearer`. Servers read it "
            "when they start. On one machine without a cluster it is taken from the variable TUNESMITH_API_KEY.",
            examples=[{"name": "my-api-key", "key": "key"}],
        ),
    ]


_PROVIDER = "(has(self.runtime) && has(self.runtime.executionProvider) ? self.runtime.executionProvider : 'cpu')"
_DEVICES = (
    "(has(self.resources) && has(self.resources.accelerators) ? self.resources.accelerators : "
    f"({_PROVIDER} in ['cpu', 'openvino'] ? 0 : 1))"
)
_ON_DEVICE = (
    "(has(self.runtime.providerOptions) && 'device_type' in self.runtime.providerOptions && "
    "self.runtime.providerOptions['device_type'] != 'CPU')"
)


def _is_on_device(runtime: RuntimeSpec) -> bool:
    """Return whether OpenVINO is to compute on a GPU or NPU."""
    return (runtime.provider_options or {}).get("device_type", "CPU") != "CPU"


class InferenceWorkspaceSpec(SpecModel):
    """What to serve."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"{_PROVIDER} != 'cpu' || !(has(self.resources) && (has(self.resources.resourceName) || {_DEVICES} > 0))",
            "resources.accelerators and resourceName have no meaning with executionProvider cpu; remove them, or write "
            "runtime: {executionProvider: cuda}",
            lambda w: (
                w.runtime.execution_provider != CPU or not (w.resources.resource_name or w.resources.accelerators)
            ),
        ),
        Rule(
            f"{_PROVIDER} in ['cpu', 'openvino'] || {_DEVICES} != 0",
            "resources.accelerators must not be 0 with this runtime.executionProvider, which computes on a device; "
            "write accelerators: 1, or executionProvider: cpu",
            lambda w: (
                not EXECUTION_PROVIDERS[w.runtime.execution_provider].needs_device or w.resources.accelerators != 0
            ),
        ),
        Rule(
            f"{_PROVIDER} != 'vitisai' || (has(self.resources) && has(self.resources.resourceName))",
            "resources.resourceName must be set with executionProvider vitisai, whose devices have no usual name; "
            "write that which the device plugin gives the nodes, such as amd.com/xilinx_u50_gen3x16_xdma_5_202210_1-0",
            lambda w: w.runtime.execution_provider != "vitisai" or w.resources.resource_name is not None,
        ),
        Rule(
            f"{_PROVIDER} != 'openvino' || ({_DEVICES} > 0) == {_ON_DEVICE}",
            "runtime.providerOptions.device_type and resources.accelerators do not fit: OpenVINO computes on the CPU "
            "unless device_type names a device, which takes one; write providerOptions: {device_type: GPU} and "
            "accelerators: 1, or leave out both",
            lambda w: (
                w.runtime.execution_provider != "openvino" or bool(w.resources.accelerators) == _is_on_device(w.runtime)
            ),
        ),
        Rule(
            "!has(self.adapters) || self.adapters.all(a, self.adapters.exists_one(b, a.name == b.name))",
            "adapters must not have one name twice; write another name for the second, or remove it",
            lambda s: s.adapters is None or len({adapter.name for adapter in s.adapters}) == len(s.adapters),
        ),
    )

    model: Annotated[ServedModelSpec, Field(description="The model to serve.", examples=[{"fineTuneJob": "my-job"}])]
    adapters: Annotated[
        tuple[ServedAdapterSpec, ...] | None,
        Field(
            max_length=MAX_ADAPTERS,
            description="LoRA adapters to serve on the model, each under its own name; they come and go while the "
            "servers run. The model must have been exported for adapters: by a job with export.adapterOnly: true.",
            examples=[[{"name": "billing", "fineTuneJob": "billing-3"}]],
        ),
    ] = None
    adapter_selector: Annotated[
        JobSelector | None,
        Field(
            description="Also serve the adapters of all FineTuneJobs with these labels and export.adapterOnly: true "
            "that have passed their gates, each under the job's name, or under that in the job's annotation "
            "tunesmith.dev/adapter-name. Of several with one name, the one that completed last.",
            examples=[{"matchLabels": {"base": "support"}}],
        ),
    ] = None
    runtime: Annotated[ServedRuntimeSpec, Field(description="How the model is run.")] = ServedRuntimeSpec()
    replicas: Annotated[
        int, Field(ge=0, le=100, description="Servers to run; 0 stops serving. One machine without a cluster runs one.")
    ] = 1
    resources: Annotated[
        ServingResources,
        Field(description="What each server gets, and where it runs. Concerns clusters only."),
        ClusterOnly(),
    ] = ServingResources()
    auth: Annotated[
        AuthSpec | None,
        Field(
            description="Who may ask; everybody who reaches the Service by default.",
            examples=[{"apiKeySecretRef": {"name": "my-api-key", "key": "key"}}],
        ),
    ] = None
    rollout: Annotated[RolloutSpec, Field(description="How a new revision takes over."), ClusterOnly()] = RolloutSpec()
    pod_template: Annotated[
        PodTemplateSpec | None,
        Field(
            description="Additions to the servers' pods. Concerns clusters only.",
            examples=[{"serviceAccountName": "my-identity"}],
        ),
        ClusterOnly(),
    ] = None


class Revision(StatusModel):
    """A version of the model that was served."""

    revision: Annotated[str, Field(description="Name of the revision.")]
    artifact: Annotated[str, Field(description="Folder of its artifact.")]
    time: Annotated[
        str, Field(json_schema_extra={"format": "date-time"}, description="When it was first being served.")
    ]


class InferenceWorkspaceStatus(CommonStatus):
    """What is being served."""

    revision: Annotated[str | None, Field(description="Revision that is being served.")] = None
    previous_revision: Annotated[str | None, Field(description="Revision that was served before.")] = None
    endpoint: Annotated[
        str | None,
        Field(
            description="Base URL for clients: of OpenAI's API, with /v1 at its end, for textGeneration and "
            "translation; of Hugging Face's task API, text-embeddings-inference and KServe V2 for other tasks. Of a "
            "model by spec.model.uri the task is not known in a cluster, and the URL has /v1."
        ),
    ] = None
    replicas: Annotated[int | None, Field(description="Servers that there are, old and new.")] = None
    ready_replicas: Annotated[int | None, Field(description="Servers that are ready.")] = None
    selector: Annotated[str | None, Field(description="Labels of the servers' pods, for autoscalers.")] = None
    adapters: Annotated[
        list[AdapterStatus] | None,
        Field(
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            description="The adapters, by name, and whether the servers have them.",
        ),
    ] = None
    history: Annotated[list[Revision] | None, Field(description="Revisions served so far, newest last.")] = None


class InferenceWorkspace(ApiObject):
    """Serves a tuned model behind the OpenAI API."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.metadata.name.matches('{_SERVICE_NAME}')",
            "metadata.name becomes the name of a Service, so it must be lower-case letters, digits and '-', with a "
            "letter first; write for example name: my-model",
            lambda w: re.fullmatch(_SERVICE_NAME, w.metadata.name) is not None,
        ),
        Rule(
            "!has(self.spec.adapters) || self.spec.adapters.all(a, a.name != self.metadata.name)",
            "spec.adapters must not name one as the workspace, under whose name the model itself is served; write "
            "another name for it",
            lambda w: all(adapter.name != w.metadata.name for adapter in w.spec.adapters or ()),
        ),
    )

    kind: Annotated[Literal["InferenceWorkspace"], Field(description="Kind of the object.")] = "InferenceWorkspace"
    spec: Annotated[
        InferenceWorkspaceSpec, Field(description="What to serve.", examples=[{"model": {"fineTuneJob": "my-job"}}])
    ]
    status: Annotated[InferenceWorkspaceStatus | None, Field(description="What is being served.")] = None
