"""The pod of a server: the artifact, read-only, and the process that serves it."""

from __future__ import annotations

import json

from tunesmith_api.artifact import SMALLEST
from tunesmith_api.contract import API_KEY, HEALTH_PATH, READY_PATH
from tunesmith_api.objects import InferenceWorkspaceSpec
from tunesmith_api.spec.execution_providers import CPU
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.inferenceworkspace.adapters import mounts
from tunesmith_operator.inferenceworkspace.metadata import claim_label, selector_of
from tunesmith_operator.inferenceworkspace.model import Target
from tunesmith_operator.pods.base import (
    DEFAULT_REQUESTS,
    accounts,
    device_tolerations,
    env_values,
    requests_and_limits,
    restricted_container,
    restricted_pod,
    threads_of,
    with_template_env,
)

SERVER = "server"
FETCH = "fetch"
PORT = 8080
MOUNT = "/artifact"

# Time that the server has, beyond draining and shutting down, to close its connections and its engine.
_MARGIN_SECONDS = 15
_HOSTNAME = "kubernetes.io/hostname"


def pod_spec(
    workspace: KubeObject,
    spec: InferenceWorkspaceSpec,
    target: Target,
    settings: OperatorSettings,
    *,
    secret: str | None,
    one_node: str | None,
) -> KubeObject:
    """Return the spec of a server's pod.

    Args:
        workspace: The InferenceWorkspace.
        spec: Its spec.
        target: The artifact to serve.
        settings: Images and the like.
        secret: Secret with the variables that fetching the artifact takes.
        one_node: The claim of an artifact that can be mounted on one node only, if there is one.
    """
    volume, mount = _artifact(target)
    pod: KubeObject = {
        **restricted_pod(),
        "terminationGracePeriodSeconds": (spec.rollout.drain_seconds + spec.rollout.shutdown_seconds + _MARGIN_SECONDS),
        "containers": [_server(workspace, spec, target, mount, settings)],
        "volumes": [volume, {"name": "tmp", "emptyDir": {}}],
        **_placement(workspace, spec, target, one_node),
        **accounts(spec.pod_template, settings),
    }
    if target.claim is None:
        pod["initContainers"] = [fetcher(FETCH, spec, target.uri, MOUNT, secret, settings)]
    if mounts.wants_adapters(spec, target):
        _add_adapters(pod, workspace, spec, target, secret, settings)
    return pod


def _add_adapters(
    pod: KubeObject,
    workspace: KubeObject,
    spec: InferenceWorkspaceSpec,
    target: Target,
    secret: str | None,
    settings: OperatorSettings,
) -> None:
    """Add to a pod what its server needs to follow a list of adapters, in place."""
    pod["volumes"] += mounts.volumes(workspace, spec, target)
    server = pod["containers"][0]
    server["args"] += ["--adapters", mounts.list_file(spec, target)]
    server["volumeMounts"] += mounts.server_mounts(spec, target)
    if mounts.fetches(spec, target):
        container = {
            **_container(mounts.FETCHER, settings.trainer_image, spec, settings),
            "env": with_template_env(env_values({"HOME": "/tmp", "PYTHONUNBUFFERED": "1"}), spec.pod_template),  # noqa: S108
        }
        pod["initContainers"] = [*pod.get("initContainers", ()), mounts.fetcher(spec, container, secret)]


def _artifact(target: Target) -> tuple[KubeObject, KubeObject]:
    """Return the volume of the artifact and the server's mount."""
    mount: KubeObject = {"name": "artifact", "mountPath": MOUNT, "readOnly": True}
    if target.claim is None:
        return {"name": "artifact", "emptyDir": {}}, mount
    claim, path = target.claim
    if path:
        mount["subPath"] = path
    return {"name": "artifact", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}, mount


def _server(
    workspace: KubeObject, spec: InferenceWorkspaceSpec, target: Target, mount: KubeObject, settings: OperatorSettings
) -> KubeObject:
    deadline = spec.rollout.progress_deadline_seconds
    return {
        **_container(SERVER, settings.serving_image_of(spec.runtime.execution_provider), spec, settings),
        "command": ["python", "-m", "tunesmith_serving"],
        "args": _arguments(workspace, spec, target),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "env": _variables(spec),
        "resources": _resources(spec),
        "volumeMounts": [mount, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the pod's own emptyDir
        # As long as a rollout may take: large models load slowly, and a restart would only start over.
        "startupProbe": _probe(READY_PATH, periodSeconds=1, failureThreshold=deadline, timeoutSeconds=1),
        "readinessProbe": _probe(READY_PATH, periodSeconds=2, failureThreshold=3, timeoutSeconds=3),
        "livenessProbe": _probe(HEALTH_PATH, periodSeconds=10, failureThreshold=3, timeoutSeconds=10),
    }


def fetcher(
    name: str,
    spec: InferenceWorkspaceSpec,
    uri: str,
    mount: str,
    secret: str | None,
    settings: OperatorSettings,
    volume: str = "artifact",
) -> KubeObject:
    """Return the container that copies an artifact from an object store before the server starts.

    Args:
        name: Its name.
        spec: The workspace's spec.
        uri: The artifact.
        mount: Where its volume is mounted.
        secret: Secret with the variables that this takes.
        settings: Images and the like.
        volume: Name of the volume.
    """
    precision = spec.runtime.precision if name == FETCH else None
    container = {
        **_container(name, settings.trainer_image, spec, settings),
        "command": ["python", "-m", "tunesmith_trainer.storage"],
        "args": ["fetch", uri, mount, "--precision", precision or SMALLEST, *_provider(spec)],
        "env": with_template_env(env_values({"HOME": "/tmp"}), spec.pod_template),  # noqa: S108
        "resources": {"requests": dict(DEFAULT_REQUESTS)},
        "volumeMounts": [
            {"name": volume, "mountPath": mount},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }
    if secret is not None:
        container["envFrom"] = [{"secretRef": {"name": secret}}]
    return container


def _container(name: str, image: str, spec: InferenceWorkspaceSpec, settings: OperatorSettings) -> KubeObject:
    """Return the fields that both containers share."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": settings.image_pull_policy,
        **restricted_container(),
    }


def _arguments(workspace: KubeObject, spec: InferenceWorkspaceSpec, target: Target) -> list[str]:
    runtime = spec.runtime
    options: dict[str, object] = {
        "--artifact": MOUNT,
        "--model-name": workspace["metadata"]["name"],
        "--host": "0.0.0.0",  # noqa: S104 - the pod's own network
        "--port": PORT,
        **({"--precision": runtime.precision} if runtime.precision else {}),
        **({"--batch-precision": runtime.batch_precision} if runtime.batch_precision else {}),
        "--context-length": runtime.context_length,
        "--prefix-cache-memory": runtime.prefix_cache_memory,
        "--draft-tokens": runtime.draft_tokens,
        "--slots": runtime.max_batch_size,
        "--max-queue": runtime.max_queue_length,
        "--drain-seconds": spec.rollout.drain_seconds,
        "--shutdown-seconds": spec.rollout.shutdown_seconds,
    }
    if runtime.provider_options:
        options["--provider-options"] = json.dumps(runtime.provider_options, sort_keys=True)
    if spec.resources.cpu:
        options["--threads"] = threads_of(spec.resources.cpu)
    if target.digest:
        options["--expect-digest"] = target.digest
    return [*(part for name, value in options.items() for part in (name, str(value))), *_provider(spec)]


def _provider(spec: InferenceWorkspaceSpec) -> list[str]:
    provider = spec.runtime.execution_provider
    return [] if provider == CPU else ["--execution-provider", provider]


def _variables(spec: InferenceWorkspaceSpec) -> list[KubeObject]:
    variables = env_values({"HOME": "/tmp", "PYTHONUNBUFFERED": "1"})  # noqa: S108
    if spec.auth is not None:
        key = spec.auth.api_key_secret_ref.to_api()
        variables.append({"name": API_KEY, "valueFrom": {"secretKeyRef": key}})
    return with_template_env(variables, spec.pod_template)


def _resources(spec: InferenceWorkspaceSpec) -> KubeObject:
    requests, limits = requests_and_limits(spec.resources.cpu, spec.resources.memory)
    # A device is asked for by its limit alone: Kubernetes takes the same as request.
    limits |= {name: str(count) for name, count in _devices(spec).items()}
    return {"requests": requests, **({"limits": limits} if limits else {})}


def _devices(spec: InferenceWorkspaceSpec) -> dict[str, int]:
    return spec.resources.devices(spec.runtime.execution_provider)


def _placement(workspace: KubeObject, spec: InferenceWorkspaceSpec, target: Target, one_node: str | None) -> KubeObject:
    """Return the placement: pods on different nodes if possible, or on one node if their volume requires it."""
    selector = {"matchLabels": selector_of(workspace)}
    parts: KubeObject = {}
    if spec.resources.node_selector:
        parts["nodeSelector"] = dict(spec.resources.node_selector)
    own = [toleration.to_api() for toleration in spec.resources.tolerations or ()]
    if tolerations := [*own, *device_tolerations(*_devices(spec))]:
        parts["tolerations"] = tolerations
    if one_node:
        # Without it the scheduler could choose a second node, where the volume cannot be attached as long as servers of
        # this revision or the one before it hold it.
        same = {"matchLabels": {**selector_of(workspace), **claim_label(one_node)}}
        term = {"labelSelector": same, "topologyKey": _HOSTNAME}
        parts["affinity"] = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    else:
        parts["topologySpreadConstraints"] = [
            {"maxSkew": 1, "topologyKey": _HOSTNAME, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector}
        ]
    return parts


def _probe(path: str, **numbers: int) -> KubeObject:
    return {"httpGet": {"path": path, "port": "http"}, **numbers}
