"""Values that the operator chose because the spec leaves them open, with reasons, for `status.resolved`."""

from __future__ import annotations

from tunesmith_api.objects.resources import AUTO_MACHINE
from tunesmith_api.work_folder import Stage
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.finetunejob.observed import Observed
from tunesmith_operator.finetunejob.planning import Planned
from tunesmith_operator.finetunejob.stage_resources import stage_cpu, stage_image, stage_memory
from tunesmith_operator.finetunejob.volume import DEFAULT_ACCESS_MODE, DEFAULT_SIZE, work_uri

_OF_STAGES = ("resources.", "stages.")


def resolved(observed: Observed, planned: Planned, settings: OperatorSettings, before: KubeObject) -> KubeObject:
    """Return `{field: {value, reason}}`.

    Args:
        observed: The observed state.
        planned: The job's plan, and its spec with what its machine has.
        settings: Images.
        before: The values of the status so far. They stay, except for a field that the spec sets now, and for what the
            stages get, which follows the plan.
    """
    spec = observed.spec
    found: KubeObject = {}
    if spec.pod_template is None or spec.pod_template.image is None:
        found["podTemplate.image"] = _value(stage_image(spec, settings), "the operator's own trainer image")
    uri = work_uri(observed.job, spec)
    if uri is not None and (spec.output is None or spec.output.uri is None):
        found["output.uri"] = _value(f"{uri}/artifact", "beside the job's work")
    if observed.own_claim_name is not None:
        found["storage.claimName"] = _value(observed.own_claim_name, "made for this job")
        if spec.storage.size is None:
            size = planned.spec.storage.size
            found["storage.size"] = _value(size, "the plan: what all stages write") if size else _default_size()
        if spec.storage.access_mode is None:
            found["storage.accessMode"] = _value(DEFAULT_ACCESS_MODE, "default: one node at a time")
    if spec.output is not None and spec.output.uri is not None:
        before = {field: value for field, value in before.items() if field != "output.uri"}
    before = {field: value for field, value in before.items() if not field.startswith(_OF_STAGES)}
    if observed.claim is None:
        before.pop("storage.size", None)  # The plan came after the first look.
    return {**found, **before, **_of_machine(observed, planned), **_of_stages(planned)}


def _default_size() -> KubeObject:
    return _value(DEFAULT_SIZE, "default")


def _of_machine(observed: Observed, planned: Planned) -> KubeObject:
    """Return what a machine of the administrator's table stands for, once it is known."""
    asked = observed.spec.resources.machine
    if asked is None or planned.spec.resources.machine is not None:
        return {}
    (machine,) = planned.machines
    found = {"resources.gpusPerNode": _value(machine.gpus, f"machine {machine.name}")}
    if asked == AUTO_MACHINE:
        found["resources.machine"] = _value(machine.name, "the cheapest that fits")
    if machine.node_selector:
        found["resources.nodeSelector"] = _value(planned.spec.resources.node_selector, f"machine {machine.name}")
    return found


def _of_stages(planned: Planned) -> KubeObject:
    """Return what the stages get and the spec does not say."""
    found = {}
    for stage in Stage:
        amounts = {"cpu": stage_cpu(planned.spec, stage), "memory": stage_memory(planned, stage)}
        for name, amount in amounts.items():
            if amount.reason:
                path = "resources" if stage is Stage.TRAIN else f"stages.{stage.value}"
                found[f"{path}.{name}"] = _value(amount.request, amount.reason)
    return found


def _value(value: object, reason: str) -> KubeObject:
    return {"value": value, "reason": reason}
