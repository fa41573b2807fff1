"""The pod of a stage: its container, its volumes, its place and its limits."""

from __future__ import annotations

from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.work_folder import Stage
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import Object
from tunesmith_operator.finetunejob.names import job_name, labels, service_name, work_folder
from tunesmith_operator.finetunejob.placement import placement
from tunesmith_operator.finetunejob.variables import (
    CONFIG_MAPS_MOUNT,
    GRACE_SECONDS,
    IDENTITY_MOUNT,
    config_maps,
    secrets,
    variables,
)
from tunesmith_operator.finetunejob.volume import MOUNT, work_volume
from tunesmith_operator.pods.base import accounts, restricted_container, restricted_pod

CONTAINER = "trainer"

_AUDIENCE = "tunesmith.dev"
_TOKEN_SECONDS = 3600
_AUTHORITY = "tunesmith-progress-ca"
_DEFAULT_REQUESTS = {"cpu": "250m", "memory": "512Mi"}


def pod_template(
    job: Object, spec: FineTuneJobSpec, stage: Stage, attempt: int, claim: str | None, settings: OperatorSettings
) -> Object:
    """Return the pod template of a stage's Job.

    Args:
        job: The FineTuneJob.
        spec: Its spec.
        stage: The stage.
        attempt: Number of the attempt, from 1.
        claim: The claim of the work volume; None where the work is kept in an object store.
        settings: Images and the progress server.
    """
    template = spec.pod_template
    about: Object = {"labels": {**(template.labels or {} if template else {}), **labels(job, stage, attempt)}}
    if template and template.annotations:
        about["annotations"] = dict(template.annotations)
    volumes, mounts = _volumes(spec, stage, claim, settings)
    pod: Object = {
        "restartPolicy": "Never",
        **restricted_pod(),
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [_container(job, spec, stage, attempt, mounts, settings)],
        "volumes": volumes,
        **placement(spec.resources, stage),
        **accounts(template, settings),
    }
    if stage is Stage.TRAIN and spec.resources.nodes > 1:
        pod["subdomain"] = service_name(job["metadata"]["name"])
    if spec.scheduling.priority_class_name:
        pod["priorityClassName"] = spec.scheduling.priority_class_name
    return {"metadata": about, "spec": pod}


def image(spec: FineTuneJobSpec, settings: OperatorSettings) -> str:
    """Return the image of the stages."""
    template = spec.pod_template
    return template.image if template and template.image else settings.trainer_image


def _container(
    job: Object, spec: FineTuneJobSpec, stage: Stage, attempt: int, mounts: list[Object], settings: OperatorSettings
) -> Object:
    container: Object = {
        "name": CONTAINER,
        "image": image(spec, settings),
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["python", "-m", "tunesmith_trainer"],
        "args": _arguments(job["metadata"], spec, stage, attempt),
        # A path in the spec that is relative starts at the volume's root.
        "workingDir": MOUNT,
        "env": variables(job, spec, stage, settings),
        "resources": _resources(spec, stage),
        **restricted_container(),
        "volumeMounts": mounts,
    }
    if names := secrets(spec, stage):
        container["envFrom"] = [{"secretRef": {"name": name}} for name in names]
    return container


def _arguments(metadata: Object, spec: FineTuneJobSpec, stage: Stage, attempt: int) -> list[str]:
    arguments = [stage.value, "--work", f"{MOUNT}/{work_folder(metadata['name'], metadata['uid'])}"]
    if stage is Stage.TRAIN and spec.resources.nodes > 1:
        first = f"{job_name(metadata['name'], stage, attempt)}-0.{service_name(metadata['name'])}"
        arguments += ["--nnodes", str(spec.resources.nodes), "--node-rank", "$(JOB_COMPLETION_INDEX)"]
        arguments += ["--master-addr", first]
    return arguments


def _resources(spec: FineTuneJobSpec, stage: Stage) -> Object:
    """Return requests and limits: no limit of CPU, which would only slow threads that wait for one another."""
    wanted = spec.resources
    requests = dict(_DEFAULT_REQUESTS)
    limits: dict[str, str] = {}
    if wanted.cpu:
        requests["cpu"] = wanted.cpu
    if wanted.memory:
        requests["memory"] = limits["memory"] = wanted.memory
    if stage is Stage.TRAIN and wanted.gpus_per_node:
        limits[wanted.resource_name] = requests[wanted.resource_name] = str(wanted.gpus_per_node)
    return {"requests": requests, **({"limits": limits} if limits else {})}


def _volumes(
    spec: FineTuneJobSpec, stage: Stage, claim: str | None, settings: OperatorSettings
) -> tuple[list[Object], list[Object]]:
    """Return the volumes of the pod and their mounts."""
    pairs: list[tuple[Object, Object]] = [
        ({"name": "work", **work_volume(spec, claim)}, {"name": "work", "mountPath": MOUNT}),
        ({"name": "tmp", "emptyDir": {}}, {"name": "tmp", "mountPath": "/tmp"}),  # noqa: S108
    ]
    if stage is Stage.TRAIN:
        # NCCL and the workers of a node hand tensors to one another there; the default has 64 MiB.
        shm = {"name": "shm", "emptyDir": {"medium": "Memory"}}
        pairs.append((shm, {"name": "shm", "mountPath": "/dev/shm"}))  # noqa: S108
    for number, name in enumerate(config_maps(spec, stage)):
        volume = {"name": f"config-map-{number}", "configMap": {"name": name}}
        mount = {"name": volume["name"], "mountPath": f"{CONFIG_MAPS_MOUNT}/{name}", "readOnly": True}
        pairs.append((volume, mount))
    if settings.progress_url:
        pairs.append((_identity(), {"name": "identity", "mountPath": IDENTITY_MOUNT, "readOnly": True}))
    return [volume for volume, _ in pairs], [mount for _, mount in pairs]


def _identity() -> Object:
    """Return the volume by which a pod shows the progress server who it is, and knows that server."""
    token = {"audience": _AUDIENCE, "expirationSeconds": _TOKEN_SECONDS, "path": "token"}
    authority = {"name": _AUTHORITY, "optional": True, "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    sources = [{"serviceAccountToken": token}, {"configMap": authority}]
    return {"name": "identity", "projected": {"defaultMode": 0o440, "sources": sources}}
