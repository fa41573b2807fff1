"""The environment of a stage's container."""

from __future__ import annotations

from tunesmith_api import contract
from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.planner.hub import HUB_ENDPOINT
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import Stage
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.finetunejob.stage_resources import StageResources, probes_output
from tunesmith_operator.finetunejob.volume import work_uri
from tunesmith_operator.pods.base import env_values, with_template_env

CONFIG_MAPS_MOUNT = "/config-maps"
IDENTITY_MOUNT = "/var/run/secrets/tunesmith"

# All on the pod's emptyDir.
_CACHES = {
    "HOME": "/tmp",  # noqa: S108
    "HF_HOME": "/tmp/huggingface",  # noqa: S108
}
_COMPILERS_CACHES = {
    "TORCH_EXTENSIONS_DIR": "/tmp/torch-extensions",  # noqa: S108
    "TORCHINDUCTOR_CACHE_DIR": "/tmp/inductor",  # noqa: S108
    "TRITON_CACHE_DIR": "/tmp/triton",  # noqa: S108
}


def variables(
    job: KubeObject, spec: FineTuneJobSpec, stage: Stage, resources: StageResources, settings: OperatorSettings
) -> list[KubeObject]:
    """Return the `env` of a stage's container; the pod template's variables win."""
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    config = JobConfig(name=name, namespace=namespace, spec=spec.training_spec())
    values = {
        **_CACHES,
        **(_COMPILERS_CACHES if stage is not Stage.PREPARE else {}),
        "PYTHONUNBUFFERED": "1",
        contract.JOB_CONFIG: config.model_dump_json(by_alias=True, exclude_none=True),
        contract.CONFIG_MAPS: CONFIG_MAPS_MOUNT,
        contract.TERMINATION_LOG: "/dev/termination-log",
        contract.GRACE_SECONDS: str(resources.grace_seconds),
        **_work(job, spec),
        **({contract.SKIP_OUTPUT_PROBE: "true"} if stage is Stage.PREPARE and not probes_output(spec) else {}),
        **({"OMP_NUM_THREADS": str(resources.threads)} if resources.threads is not None else {}),
        **({contract.MACHINE: resources.machine} if resources.machine else {}),
        contract.NODES: str(spec.resources.nodes),
        **({HUB_ENDPOINT: settings.hub_endpoint} if settings.hub_endpoint else {}),
        **_progress(name, namespace, settings),
    }
    return with_template_env(env_values(values), spec.pod_template)


def _work(job: KubeObject, spec: FineTuneJobSpec) -> dict[str, str]:
    uri = work_uri(job, spec)
    return {contract.WORK_URI: uri} if uri else {}


def _progress(name: str, namespace: str, settings: OperatorSettings) -> dict[str, str]:
    if not settings.progress_url:
        return {}
    path = contract.PROGRESS_PATH.format(namespace=namespace, name=name)
    return {
        contract.PROGRESS_URL: settings.progress_url.rstrip("/") + path,
        contract.PROGRESS_CA_CERT: f"{IDENTITY_MOUNT}/ca.crt",
        contract.PROGRESS_TOKEN: f"{IDENTITY_MOUNT}/token",
    }
