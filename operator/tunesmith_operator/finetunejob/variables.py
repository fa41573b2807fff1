"""The environment of a stage's container."""

from __future__ import annotations

import math

from tunesmith_api import contract
from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.objects.quantity import amount
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import Stage
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import Object
from tunesmith_operator.finetunejob.volume import work_uri

CONFIG_MAPS_MOUNT = "/config-maps"
IDENTITY_MOUNT = "/var/run/secrets/tunesmith"
GRACE_SECONDS = 120
"""Time that a pod which is told to stop has to end its step and save a checkpoint."""

# All on the pod's own emptyDir.
_CACHES = {
    "HOME": "/tmp",  # noqa: S108
    "HF_HOME": "/tmp/huggingface",  # noqa: S108
}
_COMPILERS_CACHES = {
    "TORCH_EXTENSIONS_DIR": "/tmp/torch-extensions",  # noqa: S108
    "TORCHINDUCTOR_CACHE_DIR": "/tmp/inductor",  # noqa: S108
    "TRITON_CACHE_DIR": "/tmp/triton",  # noqa: S108
}


def variables(job: Object, spec: FineTuneJobSpec, stage: Stage, settings: OperatorSettings) -> list[Object]:
    """Return the `env` of a stage's container; what the pod template says of a name wins."""
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    config = JobConfig(name=name, namespace=namespace, spec=spec.training_spec())
    values = {
        **_CACHES,
        **(_COMPILERS_CACHES if stage is not Stage.PREPARE else {}),
        "PYTHONUNBUFFERED": "1",
        contract.JOB_CONFIG: config.model_dump_json(by_alias=True, exclude_none=True),
        contract.CONFIG_MAPS: CONFIG_MAPS_MOUNT,
        contract.TERMINATION_LOG: "/dev/termination-log",
        contract.GRACE_SECONDS: str(GRACE_SECONDS),
        **_work(job, spec),
        **_threads(spec, stage),
        **_progress(name, namespace, settings),
    }
    found: dict[str, Object] = {key: {"name": key, "value": value} for key, value in values.items()}
    template = spec.pod_template
    for variable in template.env or () if template else ():
        found[variable.name] = variable.to_api()
    return list(found.values())


def secrets(spec: FineTuneJobSpec, stage: Stage) -> list[str]:
    """Return the Secrets whose keys become variables of a stage, each only where it is needed; the last one wins.

    Where GPUs are, that is the one of the object store that keeps the work, or none.
    """
    references = [spec.storage.secret_ref]
    if stage is Stage.PREPARE:
        sources = (*spec.dataset.sources, *(spec.dataset.validation.sources or ()))
        references += [spec.model.secret_ref, *(source.secret_ref for source in sources)]
    elif stage is Stage.PUBLISH and spec.output is not None:
        references += [spec.output.secret_ref]
    return list(dict.fromkeys(reference.name for reference in references if reference is not None))


def config_maps(spec: FineTuneJobSpec, stage: Stage) -> list[str]:
    """Return the ConfigMaps that a stage reads rows from."""
    if stage is not Stage.PREPARE:
        return []
    sources = (*spec.dataset.sources, *(spec.dataset.validation.sources or ()))
    names = (source.config_map_key_ref.name for source in sources if source.config_map_key_ref is not None)
    return list(dict.fromkeys(names))


def _threads(spec: FineTuneJobSpec, stage: Stage) -> dict[str, str]:
    """Return as many threads as there are CPUs to run them; torch would take one for each CPU of the whole node."""
    if spec.resources.cpu is None:
        return {}
    processes = (spec.processes // spec.resources.nodes) if stage is Stage.TRAIN else 1
    return {"OMP_NUM_THREADS": str(max(1, math.ceil(amount(spec.resources.cpu)) // processes))}


def _work(job: Object, spec: FineTuneJobSpec) -> dict[str, str]:
    uri = work_uri(job, spec)
    return {contract.WORK_URI: uri} if uri else {}


def _progress(name: str, namespace: str, settings: OperatorSettings) -> dict[str, str]:
    if not settings.progress_url:
        return {}
    path = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{namespace}/trainjobs/{name}/status"
    return {
        contract.PROGRESS_URL: settings.progress_url.rstrip("/") + path,
        contract.PROGRESS_CA_CERT: f"{IDENTITY_MOUNT}/ca.crt",
        contract.PROGRESS_TOKEN: f"{IDENTITY_MOUNT}/token",
    }
