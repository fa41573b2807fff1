"""The decision about a workspace: a pure function of what was observed.

What GitOps tools are told, beyond "ready once everything is as the spec wants it":

- Waiting for a job that may still complete, for a job or a Secret that is not there yet, for room on a node or for an
  image is no failure: something outside can end it, and the workspace then goes on by itself. Where it holds up a
  rollout, the Deployment's progress deadline ends the patience.
- A job that has failed is a failure of a workspace that names it: jobs do not change, so nothing comes of it by
  itself. For a workspace that follows labels it is none: the next job may do better.
- Servers that refuse the artifact, run out of memory or crash again and again are a failure, unless one server with the
  same template is ready: then it is a matter of nodes.
- Whatever fails, what is served is served on, and a change of the spec, or pods that become ready, end the failure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tunesmith_api import status as state
from tunesmith_api.objects import InferenceWorkspaceSpec
from tunesmith_api.status.reasons import OperatorReason
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import ApplyError, Decision, Note, Object, Ref
from tunesmith_operator.inferenceworkspace.deployment import deployment
from tunesmith_operator.inferenceworkspace.metadata import selector_of
from tunesmith_operator.inferenceworkspace.model import Observed, Target
from tunesmith_operator.inferenceworkspace.report import report
from tunesmith_operator.inferenceworkspace.rollout import State, rollout_state
from tunesmith_operator.inferenceworkspace.service import disruption_budget, endpoint, service
from tunesmith_operator.inferenceworkspace.source import Choice, choose
from tunesmith_operator.pods.facts import exceeds_quota

Status = dict[str, Any]
_EVENTS_SECONDS = 15.0
"""Why a volume is not mounted is told by events alone, which are not watched."""


def decide(observed: Observed, settings: OperatorSettings) -> Decision:
    """Return what must be for a workspace."""
    workspace = observed.workspace
    if workspace["metadata"].get("deletionTimestamp"):
        return Decision()  # What it has made goes with it, by its owner references.
    spec = InferenceWorkspaceSpec.model_validate(workspace["spec"])
    before: Status = workspace.get("status") or {}
    is_new_spec = before.get("observedGeneration") != workspace["metadata"]["generation"]
    status = {**before, "observedGeneration": workspace["metadata"]["generation"], "selector": _selector(workspace)}
    choice = choose(spec.model, observed.jobs, Target.from_status(before))
    if choice.target is not None and choice.wait is None:
        resolved = {"model": {"value": choice.target.to_status(), "reason": choice.why}}
        status["resolved"] = {**(status.get("resolved") or {}), **resolved}
    # What was refused before a change of the spec says nothing of it.
    errors = () if is_new_spec else observed.errors
    decision = _decide(replace(observed, errors=errors), spec, status, choice, settings)
    assert decision.status is not None  # noqa: S101 - set on every path
    return replace(decision, events=_news(before, decision.status))


def _decide(
    observed: Observed, spec: InferenceWorkspaceSpec, status: Status, choice: Choice, settings: OperatorSettings
) -> Decision:
    if spec.replicas == 0:
        return _stop(observed, spec, status, choice, settings)
    if choice.target is None:
        assert choice.wait is not None  # noqa: S101 - there is the one or the other
        status |= {"replicas": 0, "readyReplicas": 0}
        told = state.failed if choice.wait.final else state.waiting
        return Decision(told(status, choice.wait.reason, choice.wait.message))
    children = _children(observed, spec, choice.target, settings)
    rollout = rollout_state(children[0], observed.deployment, observed.pods, observed.events)
    status |= {"replicas": rollout.servers, "readyReplicas": rollout.ready}
    if refused := _refusal(observed.errors):
        reason, message, is_final = refused
        told = state.rolling_out if not is_final else state.blocked if rollout.ready else state.failed
        return Decision(told(status, reason, message), apply=children)
    status = report(status, choice, choice.target, rollout, spec.replicas, endpoint(observed.workspace, settings))
    is_mute = rollout.problem is None or rollout.problem.reason == OperatorReason.VOLUME_NOT_MOUNTED
    waits = rollout.state is State.GOING and is_mute and rollout.servers > rollout.ready
    return Decision(status, apply=children, requeue_after=_EVENTS_SECONDS if waits else None)


def _stop(
    observed: Observed, spec: InferenceWorkspaceSpec, status: Status, choice: Choice, settings: OperatorSettings
) -> Decision:
    """Return the decision where no server is wanted: the Deployment stays, with no pods."""
    if observed.deployment is None:
        return Decision(state.scaled_to_zero(status))
    if choice.target is None:
        name = observed.workspace["metadata"]["name"]
        return Decision(state.scaled_to_zero(status), delete=(Ref("Deployment", name),))
    children = _children(observed, spec, choice.target, settings)
    rollout = rollout_state(children[0], observed.deployment, observed.pods, observed.events)
    if rollout.state is State.DONE:
        return Decision(state.scaled_to_zero(status), apply=children)
    status |= {"replicas": rollout.servers, "readyReplicas": rollout.ready}
    message = f"replicas is 0: {rollout.servers} servers are being stopped"
    return Decision(state.rolling_out(status, OperatorReason.SCALING_DOWN, message), apply=children)


def _children(
    observed: Observed, spec: InferenceWorkspaceSpec, target: Target, settings: OperatorSettings
) -> tuple[Object, ...]:
    """Return the Deployment, then what goes with it."""
    workspace = observed.workspace
    given = spec.model.secret_ref
    secret = given.name if given else target.secret
    one_node = target.claim is not None and target.claim[0] in observed.one_node
    servers = deployment(workspace, spec, target, settings, secret=secret, one_node=one_node)
    # With one server a budget would protect nothing.
    budget = (disruption_budget(workspace),) if spec.replicas > 1 else ()
    return (servers, service(workspace), *budget)


def _refusal(errors: tuple[ApplyError, ...]) -> tuple[str, str, bool] | None:
    """Return reason, message and finality of what the API server refused to write."""
    for error in errors:
        what = f"{error.ref.kind} {error.ref.name}"
        if error.reason == "AlreadyExists":
            message = f"{error.message}. Rename this InferenceWorkspace or remove the {error.ref.kind}"
            return OperatorReason.NAME_TAKEN, message, False
        if error.status == 422:
            return "InvalidSpec", f"{what} is refused: {error.message}. Correct the field that it names", True
        if error.status == 403:
            reason = OperatorReason.QUOTA_EXCEEDED if exceeds_quota(error.message) else OperatorReason.FORBIDDEN
            return reason, f"{what} may not be made: {error.message}. It is tried again by itself", False
    return None


def _selector(workspace: Object) -> str:
    return ",".join(f"{key}={value}" for key, value in selector_of(workspace).items())


def _news(before: Status, after: Status) -> tuple[Note, ...]:
    """Return an event where the object stands elsewhere than before."""
    old, new = _ready(before), _ready(after)
    if (old.get("status"), old.get("reason")) == (new["status"], new["reason"]):
        return ()
    return (Note("Warning" if new["status"] == "False" else "Normal", new["reason"], new["message"]),)


def _ready(status: Status) -> dict[str, str]:
    return next((item for item in status.get("conditions") or () if item["type"] == "Ready"), {})
