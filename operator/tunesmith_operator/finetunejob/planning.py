"""The plan of a job: what each stage needs, which machine it trains on, and whether it fits there."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from pydantic import ValidationError

from tunesmith_api.failures import Reason
from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.objects.plan import PlanStatus
from tunesmith_api.objects.resources import AUTO_MACHINE
from tunesmith_api.planner import DataShape, DoesNotFit, Machine, Plan, choose, quantity
from tunesmith_api.spec.quantity import amount
from tunesmith_api.work_folder import Stage
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.finetunejob.containers import result_of, without_nulls
from tunesmith_operator.finetunejob.failures import Failure
from tunesmith_operator.finetunejob.machines import (
    batch_problem,
    candidates,
    is_known,
    missing_machine,
    name_of,
    with_machine,
)
from tunesmith_operator.finetunejob.observed import Observed
from tunesmith_operator.finetunejob.volume import DEFAULT_SIZE
from tunesmith_operator.pods.facts import holds

_QUANTITY = re.compile(r"[1-9][0-9]*(\.[0-9]{1,3})?(k|M|G|T|Ki|Mi|Gi|Ti)")
_NAMED = 3


@dataclass(frozen=True)
class Planned:
    """A job with its plan.

    Attributes:
        spec: The spec, with the size of its volume by the plan, and with what its machine has if that is known.
        plan: The plan as in `status.plan`; None if the model is not known yet.
        machines: The machines that it may train on; several with `machine: auto` before it is planned.
        refusal: Why it cannot be trained; None if it can, as far as is known.
        missing: Why its machine is not known; empty if it is.
    """

    spec: FineTuneJobSpec
    plan: KubeObject | None = None
    machines: tuple[Machine, ...] = ()
    refusal: Failure | None = None
    missing: str = ""

    def memory(self, stage: Stage) -> str | None:
        """Return the memory that a stage needs by the plan; None if that is not known."""
        value = (((self.plan or {}).get("stages") or {}).get(stage.value) or {}).get("memory")
        return value if _is_quantity(value) else None


def planned(observed: Observed, settings: OperatorSettings) -> Planned:
    """Return a job with its plan: that of `prepare`, else that of the status, else a new one if the model is known.

    `prepare` knows the data, so its plan is the one that is trained by.
    """
    spec = observed.spec
    plan, table = observed.status.get("plan"), settings.machines
    if (prepared := prepared_plan(observed)) is not None:
        plan = prepared
    is_auto = spec.resources.machine == AUTO_MACHINE
    chosen = str(plan["machine"]) if is_auto and plan and plan.get("machine") else None
    machines = candidates(spec, table, chosen)
    if not machines:
        return Planned(spec, plan, missing=missing_machine(spec, table, chosen))
    is_trained = Stage.TRAIN.value in observed.attempts()  # what the table says now of its machine comes too late
    has_one = spec.resources.machine is not None and len(machines) == 1
    if has_one and not is_trained and (problem := batch_problem(spec, machines[0])):
        return Planned(spec, plan, refusal=Failure(Reason.INVALID_SPEC.value, problem))
    if plan is None and observed.shape is not None and not observed.attempts():
        made = _choose(observed, machines)
        if isinstance(made, DoesNotFit):
            return Planned(spec, refusal=_does_not_fit(made, observed, settings))
        if made is not None:
            machines = (made.machine,)
            plan = _told(made.to_status(), made.machine)
    elif prepared is not None and len(machines) == 1:
        plan = _told(prepared, machines[0])
        if short := _shortfall(plan, machines[0]):
            return Planned(spec, plan, machines, refusal=Failure(Reason.DOES_NOT_FIT.value, short))
    if spec.resources.machine is not None and len(machines) == 1:
        spec = with_machine(spec, machines[0])
    return Planned(_with_volume(spec, plan), plan, machines)


def prepared_plan(observed: Observed) -> KubeObject | None:
    """Return the plan in the result of `prepare`, if that is the last stage and complete; None without a valid one."""
    attempts = observed.attempts()
    if list(attempts) != [Stage.PREPARE.value]:
        return None
    job = observed.job_of(Stage.PREPARE, attempts[Stage.PREPARE.value])
    if job is None or not holds(job, "Complete"):
        return None
    try:
        found = PlanStatus.model_validate(without_nulls(result_of(observed.pods_of(job)).get("plan")))
    except ValidationError:
        return None
    return found.to_api()


def _with_volume(spec: FineTuneJobSpec, plan: KubeObject | None) -> FineTuneJobSpec:
    """Return a spec that says the size of a new volume, if what all stages write does not fit in the default size."""
    storage = spec.storage
    if plan is None or storage.size is not None or (storage.claim_name or storage.uri) is not None:
        return spec
    sizes = [need.get("disk") for need in (plan.get("stages") or {}).values() if isinstance(need, dict)]
    most = max((amount(size) for size in sizes if _is_quantity(size)), default=0)
    if most <= amount(DEFAULT_SIZE):
        return spec
    wanted = storage.model_copy(update={"size": f"{math.ceil(most / 2**30)}Gi"})
    return spec.model_copy(update={"storage": wanted})


def _is_quantity(value: object) -> TypeGuard[str]:
    """Return whether a value is a quantity. A plan can come from the image of a user."""
    return isinstance(value, str) and _QUANTITY.fullmatch(value) is not None


def unplanned(spec: FineTuneJobSpec, table: Sequence[Machine]) -> Failure:
    """Return the failure of a job whose machine would be chosen by a plan that nobody could make."""
    names = ", ".join(machine.name for machine in table)
    why = f"resources.machine is {spec.resources.machine}, but neither the operator nor prepare could plan this model"
    return Failure(Reason.INVALID_SPEC.value, f"{why}. In a new FineTuneJob, write one of the machines {names}")


def _choose(observed: Observed, machines: tuple[Machine, ...]) -> Plan | DoesNotFit | None:
    """Return the planner's answer; None where a configuration has sizes that nothing can be computed from.

    On CPUs a job may use up what the plan keeps free: then it is not refused.
    """
    if observed.shape is None:
        return None
    try:
        found = choose(observed.spec, observed.shape, DataShape(), machines, observed.spec.resources.nodes)
    except (ArithmeticError, ValueError):
        return None
    nearest = found.plan if isinstance(found, DoesNotFit) else None
    if nearest is not None and not nearest.setup.gpu:
        least = nearest.stages["train"].memory - nearest.setup.processes * nearest.rank.reserve
        return nearest if least <= nearest.machine.memory else found
    return found


def _told(plan: KubeObject, machine: Machine) -> KubeObject:
    """Return a plan without what follows from a machine that is not known."""
    plan = {**plan, "machine": name_of(machine)}
    if not is_known(machine):
        plan |= {"hours": None, "cost": None}
        stages = dict(plan.get("stages") or {})
        stages["train"] = {**(stages.get("train") or {}), "seconds": None}
        plan["stages"] = stages
    found: KubeObject = without_nulls(plan)
    return found


def _does_not_fit(refused: DoesNotFit, observed: Observed, settings: OperatorSettings) -> Failure:
    """Return the failure of a job that fits on no machine, with the nearest configurations that do fit."""
    spec, ways = observed.spec, []
    resources = spec.resources
    if resources.memory is not None:
        with_more = candidates(_with(spec, memory=None), settings.machines)
        if isinstance(found := _choose(observed, with_more), Plan):
            ways.append(f"resources: {{memory: {quantity(found.stages['train'].memory)}}}")
    if settings.machines and resources.machine != AUTO_MACHINE:
        others = candidates(_with(spec, memory=None, machine=AUTO_MACHINE), settings.machines)
        if isinstance(found := _choose(observed, others), Plan):
            nodes = f"nodes: {resources.nodes}, " if resources.nodes > 1 else ""
            ways.append(f"resources: {{{nodes}machine: {found.machine.name}}} and nothing else under resources")
    ways += refused.nearest
    write = f"In a new FineTuneJob, write {'; or '.join(ways[:_NAMED])}"
    remedy = write if ways else "Use a larger machine or a smaller model"
    return Failure(Reason.DOES_NOT_FIT.value, f"{refused.message}. {remedy}")


def _with(spec: FineTuneJobSpec, **resources: str | None) -> FineTuneJobSpec:
    return spec.model_copy(update={"resources": spec.resources.model_copy(update=resources)})


def _shortfall(plan: KubeObject, machine: Machine) -> str:
    """Return what training needs more than its GPU machine has, by a plan that prepare made; empty if it fits."""
    if not machine.gpus:
        return ""
    train = (plan.get("stages") or {}).get("train") or {}
    having = (("memory", "memory", machine.memory), ("gpuMemory", "memory of each GPU", machine.memory_of_gpu))
    for field, what, there in having:
        value = train.get(field)
        # Quantities in a plan are rounded up.
        if _is_quantity(value) and amount(value) > amount(has := quantity(there)):
            return f"training needs {value} of {what}, and {machine.name} has {has}"
    return ""
