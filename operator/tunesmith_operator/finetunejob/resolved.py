"""Values that the operator chose because the spec leaves them open, with reasons, for `status.resolved`."""

from __future__ import annotations

from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.finetunejob.observed import Observed
from tunesmith_operator.finetunejob.stage_resources import stage_image
from tunesmith_operator.finetunejob.volume import DEFAULT_ACCESS_MODE, DEFAULT_SIZE, work_uri


def resolved(observed: Observed, settings: OperatorSettings, before: KubeObject) -> KubeObject:
    """Return `{field: {value, reason}}`.

    Args:
        observed: The observed state.
        settings: Images.
        before: The values of the status so far. They stay, except for a field that the spec sets now.
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
            found["storage.size"] = _value(DEFAULT_SIZE, "default")
        if spec.storage.access_mode is None:
            found["storage.accessMode"] = _value(DEFAULT_ACCESS_MODE, "default: one node at a time")
    if spec.output is not None and spec.output.uri is not None:
        before = {field: value for field, value in before.items() if field != "output.uri"}
    return {**found, **before}


def _value(value: str, reason: str) -> dict[str, str]:
    return {"value": value, "reason": reason}
