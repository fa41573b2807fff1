"""What a server's pod has for its adapters: the list, the volume that they are on, and who fetches them."""

from __future__ import annotations

from tunesmith_api.contract import ADAPTERS_FILE
from tunesmith_api.objects import InferenceWorkspaceSpec
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.inferenceworkspace.model import Target

FETCHER = "adapters"
"""Name of the container that fetches adapters from object stores while the server runs."""
CLAIM_MOUNT = "/claim"
"""Where the whole volume of the base model is mounted, which holds adapters too."""

_LIST_MOUNT = "/adapter-list"
_FETCHED_MOUNT = "/adapters"
_SECRETS_MOUNT = "/adapter-secrets"


def wants_adapters(spec: InferenceWorkspaceSpec, target: Target) -> bool:
    """Return whether the servers follow a list of adapters, also an empty one."""
    return spec.adapters is not None or spec.adapter_selector is not None or target.adapter is not None


def config_map_name(workspace: KubeObject) -> str:
    """Return the name of the ConfigMap with a workspace's lists of adapters."""
    return f"{workspace['metadata']['name']}-adapters"


def list_key(revision: str) -> str:
    """Return the key of a revision's list in the ConfigMap. Servers of two revisions have different base models."""
    return f"{revision}.json"


def fetches(spec: InferenceWorkspaceSpec, target: Target) -> bool:
    """Return whether the pods can fetch adapters from object stores.

    It depends on the base model and on what `spec.adapters` says, and not on the jobs: the pods are not replaced when
    those change.
    """
    return target.claim is None or any(
        adapter.uri is not None and not adapter.uri.startswith("pvc://") for adapter in spec.adapters or ()
    )


def secrets_of(spec: InferenceWorkspaceSpec) -> list[str]:
    """Return the names of the Secrets that `spec.adapters` names."""
    return sorted({adapter.secret_ref.name for adapter in spec.adapters or () if adapter.secret_ref is not None})


def list_file(spec: InferenceWorkspaceSpec, target: Target) -> str:
    """Return the path of the list that the server follows."""
    folder = _FETCHED_MOUNT if fetches(spec, target) else _LIST_MOUNT
    return f"{folder}/{ADAPTERS_FILE}"


def volumes(workspace: KubeObject, spec: InferenceWorkspaceSpec, target: Target) -> list[KubeObject]:
    """Return the volumes of a pod for its adapters."""
    items = [{"key": list_key(target.revision), "path": ADAPTERS_FILE}]
    found: list[KubeObject] = [
        {"name": "adapter-list", "configMap": {"name": config_map_name(workspace), "items": items}}
    ]
    if fetches(spec, target):
        found.append({"name": "adapters", "emptyDir": {}})
        found += [
            # Optional: without it one adapter cannot be copied, which says so, and the others are served.
            {"name": f"adapter-secret-{index}", "secret": {"secretName": name, "optional": True}}
            for index, name in enumerate(secrets_of(spec))
        ]
    return found


def server_mounts(spec: InferenceWorkspaceSpec, target: Target) -> list[KubeObject]:
    """Return what the server mounts for its adapters."""
    found: list[KubeObject] = []
    if target.claim is not None:
        found.append({"name": "artifact", "mountPath": CLAIM_MOUNT, "readOnly": True})
    if fetches(spec, target):
        found.append({"name": "adapters", "mountPath": _FETCHED_MOUNT, "readOnly": True})
    else:
        # Not by subPath, with which a mounted file never changes.
        found.append({"name": "adapter-list", "mountPath": _LIST_MOUNT, "readOnly": True})
    return found


def fetcher(spec: InferenceWorkspaceSpec, container: KubeObject, secret: str | None) -> KubeObject:
    """Return the container that fetches adapters beside the server. It ends after it.

    Args:
        spec: The workspace's spec.
        container: The fields that all containers share.
        secret: Secret with which the base model is read.
    """
    found: KubeObject = {
        **container,
        "command": ["python", "-m", "tunesmith_trainer.storage"],
        "args": [
            *("follow", f"{_LIST_MOUNT}/{ADAPTERS_FILE}", _FETCHED_MOUNT),
            *(("--secrets", _SECRETS_MOUNT) if secrets_of(spec) else ()),
        ],
        "restartPolicy": "Always",
        "resources": {"requests": {"cpu": "10m", "memory": "128Mi"}},
        "volumeMounts": [
            {"name": "adapter-list", "mountPath": _LIST_MOUNT, "readOnly": True},
            {"name": "adapters", "mountPath": _FETCHED_MOUNT},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own emptyDir
            *(
                {"name": f"adapter-secret-{index}", "mountPath": f"{_SECRETS_MOUNT}/{name}", "readOnly": True}
                for index, name in enumerate(secrets_of(spec))
            ),
        ],
    }
    if secret is not None:
        found["envFrom"] = [{"secretRef": {"name": secret}}]
    return found
