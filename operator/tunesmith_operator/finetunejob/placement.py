"""The nodes on which the pods of a stage may run, by the labels and taints of AKS, Karpenter and NVIDIA's discovery."""

from __future__ import annotations

from typing import Any

from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.objects.pod_template import Toleration
from tunesmith_api.objects.resources import DEFAULT_GPU_RESOURCE, INSTANCE_TYPE_LABEL, NODE_POOL_LABEL, ResourcesSpec
from tunesmith_api.objects.stages import StageSpec
from tunesmith_api.work_folder import Stage
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.pods.base import device_tolerations

_GPU_PRODUCT = "nvidia.com/gpu.product"
_GPU_MEMORY = "nvidia.com/gpu.memory"  # MiB of one GPU
_SPOT = "kubernetes.azure.com/scalesetpriority"
_CAPACITY_TYPE = "karpenter.sh/capacity-type"

# An 80 GiB card reports 81,559 MiB, a 16 GiB one 15,360: drivers and error correction use the rest.
USABLE_GPU_MEMORY = 0.93
"""Share of a GPU's nominal memory that a job can be sure of."""


def trains_on_gpus(resources: ResourcesSpec) -> bool:
    """Return whether training has GPUs, or may get some with a machine that is not chosen yet."""
    return resources.gpus_per_node > 0 or resources.machine is not None


def placement(spec: FineTuneJobSpec, stage: Stage) -> KubeObject:
    """Return the `nodeSelector`, `affinity` and `tolerations` of a stage's pods; empty ones are left out.

    The nodes of `resources` are for training. If it has no GPUs, or the stage has some, they are for the stage too, as
    far as `stages` names no others.
    """
    resources = spec.resources
    if stage is Stage.TRAIN:
        parts: KubeObject = {
            "nodeSelector": _node_selector(resources),
            "tolerations": [*_own(resources), *_of_gpus(resources, resources.gpus_per_node), *_of_spot(resources)],
            "affinity": _affinity(resources),
        }
    else:
        own = stage_spec(spec, stage)
        shares = not trains_on_gpus(resources) or own.gpus > 0
        is_here = shares and own.node_selector is None
        tolerations = _own(resources) if shares and own.tolerations is None else _listed(own.tolerations)
        parts = {
            "nodeSelector": _node_selector(resources) if is_here else dict(own.node_selector or {}),
            "tolerations": [*tolerations, *_of_gpus(resources, own.gpus), *(_of_spot(resources) if is_here else ())],
            "affinity": _affinity(resources) if is_here else {},
        }
    return {name: value for name, value in parts.items() if value}


def stage_spec(spec: FineTuneJobSpec, stage: Stage) -> StageSpec:
    """Return what the spec says of a stage other than training."""
    return spec.stages.prepare if stage is Stage.PREPARE else spec.stages.publish


def _node_selector(resources: ResourcesSpec) -> dict[str, str]:
    selector = dict(resources.node_selector or {})
    if resources.node_pool:
        selector[NODE_POOL_LABEL] = resources.node_pool
    if resources.instance_type:
        selector[INSTANCE_TYPE_LABEL] = resources.instance_type
    if resources.gpu and resources.gpu.product:
        selector[_GPU_PRODUCT] = resources.gpu.product
    return selector


def _own(resources: ResourcesSpec) -> list[KubeObject]:
    return _listed(resources.tolerations)


def _listed(tolerations: tuple[Toleration, ...] | None) -> list[KubeObject]:
    return [toleration.to_api() for toleration in tolerations or ()]


def _of_gpus(resources: ResourcesSpec, gpus: int) -> list[KubeObject]:
    """Return the tolerations of the taints that GPU nodes usually have."""
    return device_tolerations(DEFAULT_GPU_RESOURCE, resources.resource_name) if gpus else []


def _of_spot(resources: ResourcesSpec) -> list[KubeObject]:
    if not resources.spot:
        return []
    return [{"key": _SPOT, "operator": "Equal", "value": "spot", "effect": "NoSchedule"}]


def _affinity(resources: ResourcesSpec) -> KubeObject:
    """Return the node affinity: enough GPU memory, and a spot node of a node pool or of Karpenter."""
    terms: list[list[dict[str, Any]]] = [[]]
    if resources.gpu and resources.gpu.min_memory_gib:
        least = int(resources.gpu.min_memory_gib * 1024 * USABLE_GPU_MEMORY)
        terms = [[{"key": _GPU_MEMORY, "operator": "Gt", "values": [str(least - 1)]}]]
    if resources.spot:
        is_spot = (
            {"key": _SPOT, "operator": "In", "values": ["spot"]},
            {"key": _CAPACITY_TYPE, "operator": "In", "values": ["spot"]},
        )
        terms = [[*term, expression] for term in terms for expression in is_spot]
    if terms == [[]]:
        return {}
    selectors = [{"matchExpressions": term} for term in terms]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": selectors}}}
