"""The decision about a workspace: a pure function of its observed state.

What GitOps tools see, beyond "ready once everything is as specified":

- Waiting for a job that may still complete, for a job or a Secret that does not exist yet, for room on a node or for
  an image is not a failure: something outside can end it, and the workspace then goes on by itself. If it delays a
  rollout, the Deployment's progress deadline limits the wait.
- A failed job is a failure of a workspace that names it: the job does not recover by itself. It is not a failure of a
  workspace that follows labels: the next job may succeed.
- Servers that refuse the artifact, run out of memory or crash again and again are a failure, unless one server with the
  same template is ready: then the nodes are the problem.
- Whatever fails, the old revision keeps serving. A change of the spec, or pods that become ready, end the failure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tunesmith_api import status as state
from tunesmith_api.failures import Reason
from tunesmith_api.status.reasons import OperatorReason
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import ApplyError, Decision, EventSpec, KubeObject, ObjectRef
from tunesmith_operator.inferenceworkspace.adapters import report as adapters
from tunesmith_operator.inferenceworkspace.adapters.lists import config_map
from tunesmith_operator.inferenceworkspace.deployment import deployment
from tunesmith_operator.inferenceworkspace.metadata import selector_of
from tunesmith_operator.inferenceworkspace.model import Choice, Observed, Target
from tunesmith_operator.inferenceworkspace.report import report, waits_for_draft
from tunesmith_operator.inferenceworkspace.rollout import State, rollout_state
from tunesmith_operator.inferenceworkspace.service import disruption_budget, endpoint, service
from tunesmith_operator.pods.facts import condition, exceeds_quota

Status = dict[str, Any]
_EVENTS_SECONDS = 15.0
"""Only events say why a volume is not mounted, and they are not watched."""


def decide(observed: Observed, settings: OperatorSettings) -> Decision:
    """Return what must be for a workspace."""
    workspace = observed.workspace
    if workspace["metadata"].get("deletionTimestamp"):
        return Decision()  # Its children are deleted with it, by their owner references.
    before: Status = workspace.get("status") or {}
    is_new_spec = before.get("observedGeneration") != workspace["metadata"]["generation"]
    status = {**before, "observedGeneration": workspace["metadata"]["generation"], "selector": _selector(workspace)}
    resolved = {**(status.get("resolved") or {})}
    if observed.draft is None:
        resolved.pop("draftModel", None)
    for name, choice in (("model", observed.choice), ("draftModel", observed.draft)):
        if choice is not None and choice.target is not None and choice.wait is None:
            resolved[name] = {"value": choice.target.to_status(), "reason": choice.why}
    if resolved or "resolved" in status:
        status["resolved"] = resolved
    # Errors from before a change of the spec say nothing about the new spec.
    errors = () if is_new_spec else observed.errors
    decision = _with_adapters(_decide(replace(observed, errors=errors), status, settings), observed)
    assert decision.status is not None  # noqa: S101 - set on every path
    events = (*_news(before, decision.status), *adapters.news(before, decision.status))
    return replace(decision, events=events)


def refuse(workspace: KubeObject, message: str) -> Decision:
    """Return the decision about a workspace whose spec cannot be parsed: what it serves already goes on."""
    if workspace["metadata"].get("deletionTimestamp"):
        return Decision()
    before: Status = workspace.get("status") or {}
    status = {**before, "observedGeneration": workspace["metadata"]["generation"]}
    told = state.blocked if before.get("readyReplicas") else state.failed
    status = told(status, Reason.INVALID_SPEC, message)
    return Decision(status, events=_news(before, status))


def _decide(observed: Observed, status: Status, settings: OperatorSettings) -> Decision:
    spec, choice, draft = observed.spec, observed.choice, observed.draft
    if spec.replicas == 0:
        return _stop(observed, status, settings)
    if (target := choice.target) is None:
        assert choice.wait is not None  # noqa: S101 - there is the one or the other
        status |= {"replicas": 0, "readyReplicas": 0}
        told = state.failed if choice.wait.final else state.waiting
        return Decision(told(status, choice.wait.reason, choice.wait.message))
    if draft is not None and draft.target is None:
        assert draft.wait is not None  # noqa: S101 - there is the one or the other
        return Decision(waits_for_draft(status, draft.wait, observed.pods), apply=_adapter_lists(observed, target))
    if choice.wait is None and draft is not None:
        choice = Choice(target, choice.why, draft.wait)
    children = _children(observed, target, settings)
    rollout = rollout_state(_servers_in(children), observed.deployment, observed.pods, observed.events)
    status |= {"replicas": rollout.servers, "readyReplicas": rollout.ready}
    if refused := _refusal(observed.errors):
        reason, message, is_final = refused
        told = state.rolling_out if not is_final else state.blocked if rollout.ready else state.failed
        return Decision(told(status, reason, message), apply=children)
    url = endpoint(observed.workspace, settings, target.task)
    status = report(status, choice, target, rollout, spec.replicas, url)
    is_mute = rollout.problem is None or rollout.problem.reason == OperatorReason.VOLUME_NOT_MOUNTED
    waits = rollout.state is State.GOING and is_mute and rollout.servers > rollout.ready
    return Decision(status, apply=children, requeue_after=_EVENTS_SECONDS if waits else None)


def _with_adapters(decision: Decision, observed: Observed) -> Decision:
    """Return a decision with the state of the adapters, and what makes the servers learn of their list."""
    assert decision.status is not None  # noqa: S101 - set on every path
    ready = int(decision.status.get("readyReplicas") or 0)
    status, again = adapters.with_adapters(decision.status, observed.adapters, observed.answers, ready)
    decision = replace(decision, status=status)
    if observed.adapters is None or (target := observed.choice.target) is None:
        return decision
    annotate = adapters.notifications(observed.pods, target, observed.adapters, observed.answers, observed.now)
    waits = [seconds for seconds in (decision.requeue_after, again) if seconds is not None]
    return replace(decision, annotate=annotate, requeue_after=min(waits, default=None))


def _stop(observed: Observed, status: Status, settings: OperatorSettings) -> Decision:
    """Return the decision for `replicas: 0`: the Deployment stays, without pods."""
    if observed.deployment is None:
        return Decision(state.scaled_to_zero(status))
    target = observed.choice.target
    if target is None or (observed.draft is not None and observed.draft.target is None):
        name = observed.workspace["metadata"]["name"]
        return Decision(state.scaled_to_zero(status), delete=(ObjectRef("Deployment", name),))
    children = _children(observed, target, settings)
    rollout = rollout_state(_servers_in(children), observed.deployment, observed.pods, observed.events)
    if rollout.state is State.DONE:
        return Decision(state.scaled_to_zero(status), apply=children)
    status |= {"replicas": rollout.servers, "readyReplicas": rollout.ready}
    message = f"replicas is 0: {rollout.servers} servers are being stopped"
    return Decision(state.rolling_out(status, OperatorReason.SCALING_DOWN, message), apply=children)


def _children(observed: Observed, target: Target, settings: OperatorSettings) -> tuple[KubeObject, ...]:
    """Return what a workspace consists of, in the order in which it is made.

    That is the ConfigMap with the list of adapters, where there are some, the Deployment, the Service and, with several
    replicas, the PodDisruptionBudget.
    """
    workspace, spec = observed.workspace, observed.spec
    given = spec.model.secret_ref
    secret = given.name if given else target.secret
    draft = observed.draft.target if observed.draft else None
    claims = [each.claim[0] for each in (target, draft) if each and each.claim]
    one_node = next((claim for claim in claims if claim in observed.one_node), None)
    servers = deployment(workspace, spec, target, settings, secret=secret, one_node=one_node, draft=draft)
    # With one server a disruption budget would protect nothing.
    budget = (disruption_budget(workspace),) if spec.replicas > 1 else ()
    return (*_adapter_lists(observed, target), servers, service(workspace), *budget)


def _adapter_lists(observed: Observed, target: Target) -> tuple[KubeObject, ...]:
    if observed.adapters is None:
        return ()
    return (config_map(observed.workspace, target, observed.adapters, observed.lists),)


def _servers_in(children: tuple[KubeObject, ...]) -> KubeObject:
    return next(child for child in children if child["kind"] == "Deployment")


def _refusal(errors: tuple[ApplyError, ...]) -> tuple[str, str, bool] | None:
    """Return reason, message and finality of the first child that the API server refused; None if there is none."""
    for error in errors:
        what = f"{error.ref.kind} {error.ref.name}"
        if error.reason == "AlreadyExists":
            message = f"{error.message}. Rename this InferenceWorkspace or remove the {error.ref.kind}"
            return OperatorReason.NAME_TAKEN, message, False
        if error.status == 422:
            return Reason.INVALID_SPEC, f"{what} is refused: {error.message}. Correct the field that it names", True
        if error.status == 403:
            reason = OperatorReason.QUOTA_EXCEEDED if exceeds_quota(error.message) else OperatorReason.FORBIDDEN
            return reason, f"{what} may not be made: {error.message}. It is tried again by itself", False
    return None


def _selector(workspace: KubeObject) -> str:
    return ",".join(f"{key}={value}" for key, value in selector_of(workspace).items())


def _news(before: Status, after: Status) -> tuple[EventSpec, ...]:
    """Return an event if the Ready condition has changed."""
    old, new = condition({"status": before}, "Ready"), condition({"status": after}, "Ready")
    if (old.get("status"), old.get("reason")) == (new["status"], new["reason"]):
        return ()
    return (EventSpec("Warning" if new["status"] == "False" else "Normal", new["reason"], new["message"]),)
