"""The resources of a stage's pods: image, CPU, memory, GPUs, nodes, Secrets, ConfigMaps, volumes and grace period.

`stage_resources` is the only reader of `spec.resources` for pods. The Job and its pod are built from its result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.work_folder import Stage
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.finetunejob.placement import placement
from tunesmith_operator.pods.base import requests_and_limits, threads_of

GRACE_SECONDS = 120
"""Time from SIGTERM to SIGKILL: enough to finish a step and save a checkpoint."""


@dataclass(frozen=True)
class StageResources:
    """The resources of each pod of a stage.

    Attributes:
        image: Image of the container.
        nodes: Number of pods that work together, each on a node of its own.
        requests: Resource requests, GPUs included.
        limits: Resource limits, GPUs included; none for CPU.
        placement: The pod's `nodeSelector`, `tolerations` and `affinity`, as far as it has them.
        secrets: Secrets whose keys become environment variables; the last one wins.
        config_maps: ConfigMaps that are mounted, because they hold rows.
        shared_memory: Whether `/dev/shm` is larger than the default of 64 MiB.
        threads: Threads of each process; None to leave it to the libraries.
        grace_seconds: Time from SIGTERM to SIGKILL.
    """

    image: str
    nodes: int
    requests: Mapping[str, str]
    limits: Mapping[str, str]
    placement: KubeObject
    secrets: tuple[str, ...]
    config_maps: tuple[str, ...]
    shared_memory: bool
    threads: int | None
    grace_seconds: int


def stage_resources(spec: FineTuneJobSpec, stage: Stage, settings: OperatorSettings) -> StageResources:
    """Return the resources of each pod of a stage.

    Args:
        spec: The FineTuneJob's spec.
        stage: The stage.
        settings: The operator's images.
    """
    requests, limits = _requests_and_limits(spec, stage)
    return StageResources(
        image=stage_image(spec, settings),
        nodes=spec.resources.nodes if stage is Stage.TRAIN else 1,
        requests=requests,
        limits=limits,
        placement=placement(spec.resources, stage),
        secrets=_secrets(spec, stage),
        config_maps=_config_maps(spec, stage),
        # NCCL and the processes of a node exchange tensors there.
        shared_memory=stage is Stage.TRAIN,
        threads=_threads(spec, stage),
        grace_seconds=GRACE_SECONDS,
    )


def stage_image(spec: FineTuneJobSpec, settings: OperatorSettings) -> str:
    """Return the image of all stages: the pod template's, else the operator's trainer image."""
    template = spec.pod_template
    return template.image if template and template.image else settings.trainer_image


def _requests_and_limits(spec: FineTuneJobSpec, stage: Stage) -> tuple[dict[str, str], dict[str, str]]:
    wanted = spec.resources
    requests, limits = requests_and_limits(wanted.cpu, wanted.memory)
    if stage is Stage.TRAIN and wanted.gpus_per_node:
        limits[wanted.resource_name] = requests[wanted.resource_name] = str(wanted.gpus_per_node)
    return requests, limits


def _secrets(spec: FineTuneJobSpec, stage: Stage) -> tuple[str, ...]:
    """Return the Secrets of a stage: only those that it needs.

    Training gets that of the object store that holds the work, or none.
    """
    names = [spec.storage.secret_ref.name] if spec.storage.secret_ref else []
    if stage is Stage.PREPARE:
        names += _input_secrets(spec)
    if stage is Stage.PUBLISH or (stage is Stage.PREPARE and probes_output(spec)):
        names += [spec.output.secret_ref.name] if spec.output and spec.output.secret_ref else []
    return tuple(dict.fromkeys(names))


def _input_secrets(spec: FineTuneJobSpec) -> list[str]:
    sources = (*spec.dataset.sources, *(spec.dataset.validation.sources or ()))
    references = [spec.model.secret_ref, *(source.secret_ref for source in sources)]
    return [reference.name for reference in references if reference is not None]


def probes_output(spec: FineTuneJobSpec) -> bool:
    """Return whether `prepare` can try the output: the Secrets of its inputs do not hide that of the output."""
    output = spec.output.secret_ref if spec.output else None
    return set(_input_secrets(spec)) <= ({output.name} if output else set())


def _config_maps(spec: FineTuneJobSpec, stage: Stage) -> tuple[str, ...]:
    """Return the ConfigMaps that a stage reads rows from."""
    if stage is not Stage.PREPARE:
        return ()
    sources = (*spec.dataset.sources, *(spec.dataset.validation.sources or ()))
    names = (source.config_map_key_ref.name for source in sources if source.config_map_key_ref is not None)
    return tuple(dict.fromkeys(names))


def _threads(spec: FineTuneJobSpec, stage: Stage) -> int | None:
    """Return the threads of a process; None without a CPU request."""
    if spec.resources.cpu is None:
        return None
    processes = (spec.processes // spec.resources.nodes) if stage is Stage.TRAIN else 1
    return threads_of(spec.resources.cpu, processes)
