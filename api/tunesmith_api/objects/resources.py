"""The machines that a job runs on."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from tunesmith_api.objects.pod_template import Labels, Toleration
from tunesmith_api.spec import Rule, SpecModel
from tunesmith_api.spec.quantity import Cpu, Memory

DEFAULT_GPU_RESOURCE = "nvidia.com/gpu"
NODE_POOL_LABEL = "kubernetes.azure.com/agentpool"
INSTANCE_TYPE_LABEL = "node.kubernetes.io/instance-type"

RESOURCE_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
"""Pattern of the name of a resource that a device plugin gives nodes."""
_LABEL_VALUE = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"


class GpuSpec(SpecModel):
    """Which GPUs will do, by the labels that NVIDIA's GPU feature discovery gives nodes."""

    product: Annotated[
        str | None,
        Field(
            max_length=63,
            pattern=_LABEL_VALUE,
            description="Model of the GPU, as the node label nvidia.com/gpu.product has it.",
            examples=["NVIDIA-A100-SXM4-80GB"],
        ),
    ] = None
    min_memory_gib: Annotated[
        int | None,
        Field(
            alias="minMemoryGiB",
            ge=1,
            le=1024,
            description="Least memory of one GPU in GiB, by the node label nvidia.com/gpu.memory. "
            "7% less will do, as drivers keep some of the nominal size.",
            examples=[40],
        ),
    ] = None


AUTO_MACHINE = "auto"
"""Value of `machine` that leaves the choice to the plan."""

# The server validates `default: {}` before it fills in what is in it, hence has().
_HAS_GPUS = "(has(self.gpusPerNode) && self.gpusPerNode > 0)"


class ResourcesSpec(SpecModel):
    """What training gets, and where it runs.

    Without GPUs, the other stages run on the same nodes and get the same CPU, as far as `stages` says nothing else.
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!has(self.gpu) || {_HAS_GPUS}",
            "gpu has no meaning without GPUs; write gpusPerNode: 1, or remove gpu",
            lambda r: r.gpu is None or r.gpus_per_node > 0,
        ),
        Rule(
            f"!has(self.machine) || !({_HAS_GPUS} || has(self.gpu) || has(self.instanceType) || has(self.nodePool))",
            "machine says which GPUs and nodes a job gets; remove machine, or remove gpusPerNode, gpu, instanceType "
            "and nodePool",
            lambda r: r.machine is None or not (r.gpus_per_node or r.gpu or r.instance_type or r.node_pool),
        ),
        Rule(
            f"!has(self.resourceName) || self.resourceName == '{DEFAULT_GPU_RESOURCE}' || {_HAS_GPUS}",
            "resourceName has no meaning without GPUs; write gpusPerNode: 1, or remove resourceName",
            lambda r: r.resource_name == DEFAULT_GPU_RESOURCE or r.gpus_per_node > 0,
        ),
        Rule(
            f"!has(self.nodePool) || !has(self.nodeSelector) || !('{NODE_POOL_LABEL}' in self.nodeSelector)",
            f"nodePool and the label {NODE_POOL_LABEL} in nodeSelector say the same; remove one of them",
            lambda r: r.node_pool is None or NODE_POOL_LABEL not in (r.node_selector or {}),
        ),
        Rule(
            f"!has(self.instanceType) || !has(self.nodeSelector) || !('{INSTANCE_TYPE_LABEL}' in self.nodeSelector)",
            f"instanceType and the label {INSTANCE_TYPE_LABEL} in nodeSelector say the same; remove one of them",
            lambda r: r.instance_type is None or INSTANCE_TYPE_LABEL not in (r.node_selector or {}),
        ),
    )

    nodes: Annotated[
        int, Field(ge=1, le=64, description="Machines that train together; more than 1 needs a shared volume.")
    ] = 1
    machine: Annotated[
        str | None,
        Field(
            max_length=63,
            pattern=_LABEL_VALUE,
            description="Machine from the administrator's table (the chart's value machines), which has its GPUs, "
            "nodes and price; auto takes the cheapest that fits.",
            examples=["auto"],
        ),
    ] = None
    gpus_per_node: Annotated[
        int, Field(ge=0, le=64, description="GPUs on each machine; 0 trains on the CPU. Only training holds GPUs.")
    ] = 0
    gpu: Annotated[
        GpuSpec | None, Field(description="Which GPUs will do; any by default.", examples=[{"minMemoryGiB": 40}])
    ] = None
    instance_type: Annotated[
        str | None,
        Field(
            max_length=63,
            pattern=_LABEL_VALUE,
            description=f"Type of the machines, by the node label {INSTANCE_TYPE_LABEL}.",
            examples=["Standard_NC24ads_A100_v4"],
        ),
    ] = None
    node_pool: Annotated[
        str | None,
        Field(
            max_length=63,
            pattern=_LABEL_VALUE,
            description=f"Node pool to run in, by the node label {NODE_POOL_LABEL}.",
            examples=["gpu"],
        ),
    ] = None
    node_selector: Annotated[
        Labels | None,
        Field(description="Labels of the nodes to run on.", examples=[{"topology.kubernetes.io/zone": "westeurope-1"}]),
    ] = None
    tolerations: Annotated[
        tuple[Toleration, ...] | None,
        Field(
            max_length=32,
            description="Taints of nodes that do not keep the pods away. With GPUs the usual ones are there already: "
            "sku=gpu and the resource's own name.",
            examples=[[{"key": "team", "value": "search"}]],
        ),
    ] = None
    spot: Annotated[
        bool, Field(description="Run on spot machines; when they are taken away, training goes on from a checkpoint.")
    ] = False
    cpu: Annotated[
        Cpu | None,
        Field(description='CPUs to ask for, for each training pod: 2, "0.5" or 500m; 250m by default.', examples=["4"]),
    ] = None
    memory: Annotated[
        Memory | None,
        Field(
            description="Memory of each training pod, as request and limit, with its unit; by default as much as the "
            "plan says is asked for (512Mi without a plan), without a limit.",
            examples=["16Gi"],
        ),
    ] = None
    resource_name: Annotated[
        str,
        Field(
            max_length=253,
            pattern=RESOURCE_NAME,
            description="Resource that stands for a GPU on the nodes.",
            examples=["amd.com/gpu"],
        ),
    ] = DEFAULT_GPU_RESOURCE
