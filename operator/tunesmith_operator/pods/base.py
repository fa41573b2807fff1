"""Fields that the pods of both kinds share: the Pod Security level `restricted`, and registry secrets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from tunesmith_api.objects.pod_template import PodTemplateSpec
from tunesmith_api.spec.quantity import amount
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import KubeObject

_USER = 65532

DEFAULT_REQUESTS = {"cpu": "250m", "memory": "512Mi"}
"""Requests of a container whose spec gives none."""


def restricted_pod() -> KubeObject:
    """Return the fields of a pod's spec that `restricted` requires, without access to the API server."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def restricted_container() -> KubeObject:
    """Return the fields of a container that `restricted` requires, with a read-only root file system."""
    return {
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        # Without a termination message, the status can then quote the last lines of the log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def template_metadata(
    template: PodTemplateSpec | None, labels: Mapping[str, str], annotations: Mapping[str, str] | None = None
) -> KubeObject:
    """Return the metadata of a pod template: our labels win over the template's, its annotations over ours."""
    found: KubeObject = {"labels": {**(template.labels or {} if template else {}), **labels}}
    if merged := {**(annotations or {}), **(template.annotations or {} if template else {})}:
        found["annotations"] = merged
    return found


def requests_and_limits(cpu: str | None, memory: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """Return requests and limits of a container.

    There is no CPU limit, which would only slow down threads that wait for each other.

    Args:
        cpu: Requested CPU; the default if None.
        memory: Requested memory, which is also the limit; the default and no limit if None.
    """
    requests = {**DEFAULT_REQUESTS, **({"cpu": cpu} if cpu else {}), **({"memory": memory} if memory else {})}
    return requests, {"memory": memory} if memory else {}


def threads_of(cpu: str, processes: int = 1) -> int:
    """Return the threads of each process: one per CPU; torch would start one per CPU of the node."""
    return max(1, math.ceil(amount(cpu)) // processes)


def device_tolerations(*resources: str) -> list[KubeObject]:
    """Return the tolerations of the taints that nodes with devices usually have; none without a device.

    Args:
        resources: Resources of the devices that a pod asks for.
    """
    if not resources:
        return []
    sku = {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}
    return [sku, *({"key": name, "operator": "Exists", "effect": "NoSchedule"} for name in dict.fromkeys(resources))]


def env_values(values: Mapping[str, str]) -> list[KubeObject]:
    """Return variables as a container's `env` lists them."""
    return [{"name": name, "value": value} for name, value in values.items()]


def with_template_env(variables: Iterable[KubeObject], template: PodTemplateSpec | None) -> list[KubeObject]:
    """Return the variables of a container with those of the pod template, which win."""
    found = {variable["name"]: variable for variable in variables}
    for added in (template.env or ()) if template else ():
        found[added.name] = added.to_api()
    return list(found.values())


def accounts(template: PodTemplateSpec | None, settings: OperatorSettings) -> KubeObject:
    """Return the service account and the image pull secrets of a pod, from the settings and its template."""
    fields: KubeObject = {}
    if template and template.service_account_name:
        fields["serviceAccountName"] = template.service_account_name
    own = [item.name for item in (template.image_pull_secrets or ())] if template else []
    if pull := [*settings.image_pull_secrets, *own]:
        fields["imagePullSecrets"] = [{"name": name} for name in dict.fromkeys(pull)]
    return fields
