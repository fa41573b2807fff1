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
from tunesmith_operator.finetunejob.machines import as_variable
from tunesmith_operator.finetunejob.placement import placement, stage_spec, trains_on_gpus
from tunesmith_operator.finetunejob.planning import Planned
from tunesmith_operator.pods.base import DEFAULT_REQUESTS, threads_of

GRACE_SECONDS = 120
"""Time from SIGTERM to SIGKILL: enough to finish a step and save a checkpoint."""

UNPLANNED_PREPARE_MEMORY = "4Gi"
"""What `prepare` asks for if the model is not known yet. It reads weights and rows as streams, so it takes Python,
torch and two of the largest tensors, whatever the model is. No limit, as a tensor may be larger still."""

_PLAN = "the plan of this job: the peak of all processes with the plan's reserve"
_UNKNOWN = "enough for usual models, as nothing is known of this one yet"


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
        machine: The machines of training, as the variable `TUNESMITH_MACHINE` has them; empty for nothing.
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
    machine: str
    threads: int | None
    grace_seconds: int


@dataclass(frozen=True)
class Amount:
    """CPU or memory of a stage's pods.

    Attributes:
        request: The requested amount.
        reason: Why this amount; empty if the spec says it.
        is_limit: Whether it is the limit too.
    """

    request: str
    reason: str = ""
    is_limit: bool = False


def stage_resources(planned: Planned, stage: Stage, settings: OperatorSettings) -> StageResources:
    """Return the resources of each pod of a stage.

    Args:
        planned: The FineTuneJob's spec and plan.
        stage: The stage.
        settings: The operator's images.
    """
    spec = planned.spec
    requests, limits = _requests_and_limits(planned, stage)
    return StageResources(
        image=stage_image(spec, settings),
        nodes=spec.resources.nodes if stage is Stage.TRAIN else 1,
        requests=requests,
        limits=limits,
        placement=placement(spec, stage),
        secrets=_secrets(spec, stage),
        config_maps=_config_maps(spec, stage),
        # NCCL and the processes of a node exchange tensors there.
        shared_memory=stage is Stage.TRAIN,
        machine=as_variable(planned.machines) if planned.machines else "",
        threads=_threads(spec, stage),
        grace_seconds=GRACE_SECONDS,
    )


def stage_image(spec: FineTuneJobSpec, settings: OperatorSettings) -> str:
    """Return the image of all stages: the pod template's, else the operator's trainer image."""
    template = spec.pod_template
    return template.image if template and template.image else settings.trainer_image


def stage_memory(planned: Planned, stage: Stage) -> Amount:
    """Return the memory of each pod of a stage, and why: from the spec, else from the plan."""
    spec, needed = planned.spec, planned.memory(stage)
    if stage is Stage.TRAIN:
        if spec.resources.memory is not None:
            return Amount(spec.resources.memory, is_limit=True)
        # Without a limit: training that took more than its plan would be killed after hours of work.
        return Amount(needed, f"{_PLAN}; no limit") if needed else _default_memory()
    own = stage_spec(spec, stage).memory
    if own is not None:
        return Amount(own, is_limit=True)
    if needed is not None:
        return Amount(needed, _PLAN, is_limit=True)
    if spec.resources.memory is not None and not trains_on_gpus(spec.resources):
        return Amount(spec.resources.memory, "resources.memory, as nothing is known of the model", is_limit=True)
    return Amount(UNPLANNED_PREPARE_MEMORY, f"{_UNKNOWN}; no limit") if stage is Stage.PREPARE else _default_memory()


def stage_cpu(spec: FineTuneJobSpec, stage: Stage) -> Amount:
    """Return the CPU of each pod of a stage, and why."""
    given = spec.resources.cpu
    if stage is Stage.TRAIN:
        return Amount(given) if given else _default_cpu()
    if (own := stage_spec(spec, stage).cpu) is not None:
        return Amount(own)
    return Amount(given, "resources.cpu") if given and not trains_on_gpus(spec.resources) else _default_cpu()


def stage_gpus(spec: FineTuneJobSpec, stage: Stage) -> int:
    """Return the GPUs of each pod of a stage."""
    return spec.resources.gpus_per_node if stage is Stage.TRAIN else stage_spec(spec, stage).gpus


def _default_cpu() -> Amount:
    return Amount(DEFAULT_REQUESTS["cpu"], "default")


def _default_memory() -> Amount:
    return Amount(DEFAULT_REQUESTS["memory"], "default, as nothing is known of the model; no limit")


def _requests_and_limits(planned: Planned, stage: Stage) -> tuple[dict[str, str], dict[str, str]]:
    """Return requests and limits. A CPU limit would only slow down threads that wait for each other."""
    spec = planned.spec
    memory = stage_memory(planned, stage)
    requests = {"cpu": stage_cpu(spec, stage).request, "memory": memory.request}
    limits = {"memory": memory.request} if memory.is_limit else {}
    if gpus := stage_gpus(spec, stage):
        limits[spec.resources.resource_name] = requests[spec.resources.resource_name] = str(gpus)
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
    """Return the threads of a process; None if nobody has said how many CPUs it gets."""
    cpu = stage_cpu(spec, stage)
    if cpu == _default_cpu():
        return None
    processes = (spec.processes // spec.resources.nodes) if stage is Stage.TRAIN else 1
    return threads_of(cpu.request, processes)
