"""The pod of a stage: its container, volumes, placement and limits."""

from __future__ import annotations

from pathlib import PurePosixPath

from tunesmith_api.contract import PROGRESS_AUDIENCE
from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.work_folder import Stage
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.finetunejob.names import CONTAINER, job_name, labels, service_name, work_folder
from tunesmith_operator.finetunejob.stage_resources import StageResources
from tunesmith_operator.finetunejob.variables import CONFIG_MAPS_MOUNT, IDENTITY_MOUNT, variables
from tunesmith_operator.finetunejob.volume import MOUNT, work_volume
from tunesmith_operator.pods.base import accounts, restricted_container, restricted_pod, template_metadata

_TOKEN_SECONDS = 3600
_TMP = "/tmp"  # noqa: S108 - the pod's own emptyDir
_AUTHORITY = "tunesmith-progress-ca"


def pod_template(
    job: KubeObject,
    spec: FineTuneJobSpec,
    stage: Stage,
    attempt: int,
    claim: str | None,
    resources: StageResources,
    settings: OperatorSettings,
) -> KubeObject:
    """Return the pod template of a stage's Job.

    Args:
        job: The FineTuneJob.
        spec: Its spec.
        stage: The stage.
        attempt: Number of the attempt, from 1.
        claim: The claim of the work volume; None if the work is kept in an object store.
        resources: The resources of each pod of the stage.
        settings: The pull policy of images and the progress server.
    """
    template = spec.pod_template
    volumes, mounts = _volumes(spec, stage, resources, claim, settings)
    pod: KubeObject = {
        "restartPolicy": "Never",
        **restricted_pod(),
        "terminationGracePeriodSeconds": resources.grace_seconds,
        "containers": [_container(job, spec, stage, attempt, resources, mounts, settings)],
        "volumes": volumes,
        **resources.placement,
        **accounts(template, settings),
    }
    if resources.nodes > 1:
        pod["subdomain"] = service_name(job["metadata"]["name"])
    if spec.scheduling.priority_class_name:
        pod["priorityClassName"] = spec.scheduling.priority_class_name
    return {"metadata": template_metadata(template, labels(job, stage, attempt)), "spec": pod}


def _container(
    job: KubeObject,
    spec: FineTuneJobSpec,
    stage: Stage,
    attempt: int,
    resources: StageResources,
    mounts: list[KubeObject],
    settings: OperatorSettings,
) -> KubeObject:
    limits = {"limits": dict(resources.limits)} if resources.limits else {}
    container: KubeObject = {
        "name": CONTAINER,
        "image": resources.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["python", "-m", "tunesmith_trainer"],
        "args": _arguments(job["metadata"], stage, attempt, resources.nodes),
        # Relative paths in the spec start at the volume's root.
        "workingDir": MOUNT,
        "env": variables(job, spec, stage, resources, settings),
        "resources": {"requests": dict(resources.requests), **limits},
        **restricted_container(),
        "volumeMounts": mounts,
    }
    if resources.secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in resources.secrets]
    return container


def _arguments(metadata: KubeObject, stage: Stage, attempt: int, nodes: int) -> list[str]:
    arguments = [stage.value, "--work", f"{MOUNT}/{work_folder(metadata['name'], metadata['uid'])}"]
    if nodes > 1:
        first = f"{job_name(metadata['name'], stage, attempt)}-0.{service_name(metadata['name'])}"
        arguments += ["--nnodes", str(nodes), "--node-rank", "$(JOB_COMPLETION_INDEX)"]
        arguments += ["--master-addr", first]
    return arguments


def _volumes(
    spec: FineTuneJobSpec, stage: Stage, resources: StageResources, claim: str | None, settings: OperatorSettings
) -> tuple[list[KubeObject], list[KubeObject]]:
    """Return the volumes of the pod and their mounts."""
    pairs: list[tuple[KubeObject, KubeObject]] = [
        ({"name": "work", **work_volume(spec, claim)}, {"name": "work", "mountPath": MOUNT}),
        ({"name": "tmp", "emptyDir": {}}, {"name": "tmp", "mountPath": _TMP}),
    ]
    if resources.shared_memory:
        shm = {"name": "shm", "emptyDir": {"medium": "Memory"}}
        pairs.append((shm, {"name": "shm", "mountPath": "/dev/shm"}))  # noqa: S108
    if stage is Stage.TRAIN and (folder := _offload_folder(spec)):
        pairs.append(({"name": "offload", "emptyDir": {}}, {"name": "offload", "mountPath": folder}))
    for number, name in enumerate(resources.config_maps):
        volume = {"name": f"config-map-{number}", "configMap": {"name": name}}
        mount = {"name": volume["name"], "mountPath": f"{CONFIG_MAPS_MOUNT}/{name}", "readOnly": True}
        pairs.append((volume, mount))
    if settings.progress_url:
        pairs.append((_identity(), {"name": "identity", "mountPath": IDENTITY_MOUNT, "readOnly": True}))
    return [volume for volume, _ in pairs], [mount for _, mount in pairs]


def _offload_folder(spec: FineTuneJobSpec) -> str | None:
    """Return the folder that training offloads to, if it needs a volume of its own; the root is read-only."""
    path = spec.distributed.nvme_path
    has_volume = path is None or any(PurePosixPath(path).is_relative_to(mount) for mount in (MOUNT, _TMP))
    return None if has_volume else path


def _identity() -> KubeObject:
    """Return the volume with the pod's token for the progress server, and that server's certificate authority."""
    token = {"audience": PROGRESS_AUDIENCE, "expirationSeconds": _TOKEN_SECONDS, "path": "token"}
    authority = {"name": _AUTHORITY, "optional": True, "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    sources = [{"serviceAccountToken": token}, {"configMap": authority}]
    return {"name": "identity", "projected": {"defaultMode": 0o440, "sources": sources}}
