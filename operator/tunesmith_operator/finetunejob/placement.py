"""The nodes on which the pods of a stage may run, by the labels and taints of AKS, Karpenter and NVIDIA's discovery."""

from __future__ import annotations

from typing import Any

from tunesmith_api.objects.resources import DEFAULT_GPU_RESOURCE, INSTANCE_TYPE_LABEL, NODE_POOL_LABEL, ResourcesSpec
from tunesmith_api.work_folder import Stage
from tunesmith_operator.engine.reconciler import KubeObject

_GPU_PRODUCT = "nvidia.com/gpu.product"
_GPU_MEMORY = "nvidia.com/gpu.memory"  # MiB of one GPU
_SPOT = "kubernetes.azure.com/scalesetpriority"
_CAPACITY_TYPE = "karpenter.sh/capacity-type"

# An 80 GiB card reports 81,559 MiB, a 16 GiB one 15,360: drivers and error correction use the rest.
_USABLE = 0.93


def applies_to(resources: ResourcesSpec, stage: Stage) -> bool:
    """Return whether the nodes of `resources` are for a stage: with GPUs they are for training only."""
    return stage is Stage.TRAIN or resources.gpus_per_node == 0


def placement(resources: ResourcesSpec, stage: Stage) -> KubeObject:
    """Return the `nodeSelector`, `affinity` and `tolerations` of a stage's pods; empty ones are left out."""
    if not applies_to(resources, stage):
        return {}
    parts: KubeObject = {
        "nodeSelector": _node_selector(resources),
        "tolerations": _tolerations(resources),
        "affinity": _affinity(resources),
    }
    return {name: value for name, value in parts.items() if value}


def _node_selector(resources: ResourcesSpec) -> dict[str, str]:
    selector = dict(resources.node_selector or {})
    if resources.node_pool:
        selector[NODE_POOL_LABEL] = resources.node_pool
    if resources.instance_type:
        selector[INSTANCE_TYPE_LABEL] = resources.instance_type
    if resources.gpu and resources.gpu.product:
        selector[_GPU_PRODUCT] = resources.gpu.product
    return selector


def _tolerations(resources: ResourcesSpec) -> list[KubeObject]:
    tolerations = [toleration.to_api() for toleration in resources.tolerations or ()]
    if resources.gpus_per_node:
        tolerations.append({"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"})
        for name in dict.fromkeys((DEFAULT_GPU_RESOURCE, resources.resource_name)):
            tolerations.append({"key": name, "operator": "Exists", "effect": "NoSchedule"})
    if resources.spot:
        tolerations.append({"key": _SPOT, "operator": "Equal", "value": "spot", "effect": "NoSchedule"})
    return tolerations


def _affinity(resources: ResourcesSpec) -> KubeObject:
    """Return the node affinity: enough GPU memory, and a spot node of a node pool or of Karpenter."""
    terms: list[list[dict[str, Any]]] = [[]]
    if resources.gpu and resources.gpu.min_memory_gib:
        least = int(resources.gpu.min_memory_gib * 1024 * _USABLE)
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
