"""Gathers the observed state of a workspace."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from tunesmith_api.objects import InferenceWorkspaceSpec
from tunesmith_operator.engine.event_fields import text_of
from tunesmith_operator.engine.reconciler import Api, Context, KubeObject, Store
from tunesmith_operator.inferenceworkspace.adapters.choose import choose_adapters
from tunesmith_operator.inferenceworkspace.adapters.mounts import config_map_name, list_key, wants_adapters
from tunesmith_operator.inferenceworkspace.adapters.report import askable
from tunesmith_operator.inferenceworkspace.adapters.servers import Ask
from tunesmith_operator.inferenceworkspace.metadata import REVISION
from tunesmith_operator.inferenceworkspace.model import Observed, Target
from tunesmith_operator.inferenceworkspace.pod import PORT
from tunesmith_operator.inferenceworkspace.source import choose, choose_draft, matches, name_of
from tunesmith_operator.pods.facts import SETTING_UP, waiting_of

_MANY_NODES = {"ReadWriteMany", "ReadOnlyMany"}


async def observe(workspace: KubeObject, spec: InferenceWorkspaceSpec, context: Context, ask: Ask) -> Observed:
    """Return the observed state of a workspace.

    Args:
        workspace: The InferenceWorkspace.
        spec: Its spec.
        context: What the engine gives.
        ask: Asks servers for their adapters.
    """
    metadata = workspace["metadata"]
    namespace, name, uid = metadata["namespace"], metadata["name"], metadata["uid"]
    last = Target.from_status(workspace.get("status") or {})
    last_draft = Target.from_status(workspace.get("status") or {}, "draftModel")
    jobs = list(_jobs(spec, (last, last_draft), namespace, context.store))
    choice = choose(spec.model, jobs, last, spec.runtime)
    wanted = spec.runtime.draft_model
    draft = choose_draft(wanted, jobs, last_draft) if wanted else None
    pods = tuple(context.store.owned("Pod", uid))
    target = choice.target
    if target is None or spec.replicas == 0 or not wants_adapters(spec, target):
        target = None
    return Observed(
        workspace=workspace,
        spec=spec,
        choice=choice,
        deployment=_own(context.store.get("Deployment", namespace, name), uid),
        pods=pods,
        events=await _events(pods, context.api),
        one_node=await _one_node((choice.target, draft.target if draft else None), namespace, context),
        errors=context.errors,
        adapters=choose_adapters(name, spec, target, jobs) if target else None,
        answers=await ask(askable(pods, target), PORT) if target else {},
        lists=await _lists(workspace, pods, target, context.api) if target else {},
        now=int(time.time()),
        draft=draft,
    )


async def _lists(workspace: KubeObject, pods: Sequence[KubeObject], target: Target, api: Api) -> dict[str, str]:
    """Return the lists of adapters of other revisions that still run, by their key in the ConfigMap."""
    others = {str(pod["metadata"]["labels"].get(REVISION)) for pod in pods} - {target.revision}
    if not others:
        return {}
    there = await api.own_config_map(workspace["metadata"]["namespace"], config_map_name(workspace))
    data = (_own(there, workspace["metadata"]["uid"]) or {}).get("data") or {}
    return {key: data[key] for key in sorted(map(list_key, others)) if key in data}


def _jobs(
    spec: InferenceWorkspaceSpec, last: Iterable[Target | None], namespace: str, store: Store
) -> Iterable[KubeObject]:
    """Yield the jobs that a workspace names, follows or has served, for its models or its adapters."""
    draft = spec.runtime.draft_model
    named = (spec.model.fine_tune_job, draft.fine_tune_job if draft else None)
    names = {name for name in (*named, *(target.job for target in last if target)) if name}
    names |= {adapter.fine_tune_job for adapter in spec.adapters or () if adapter.fine_tune_job}
    selectors = [found for found in (spec.model.fine_tune_job_selector, spec.adapter_selector) if found is not None]
    if not selectors:
        for name in sorted(names):
            if (job := store.get("FineTuneJob", namespace, name)) is not None:
                yield job
        return
    for job in store.all("FineTuneJob", namespace):
        if name_of(job) in names or any(matches(selector.match_labels, job) for selector in selectors):
            yield job


def _own(obj: KubeObject | None, uid: str) -> KubeObject | None:
    """Return an object if the workspace owns it; None otherwise."""
    if obj is None:
        return None
    references = obj["metadata"].get("ownerReferences") or ()
    return obj if any(reference.get("uid") == uid for reference in references) else None


async def _events(pods: Iterable[KubeObject], api: Api) -> dict[str, str]:
    """Return the newest warning about each pod that is scheduled but has no container yet."""
    found = {}
    for pod in pods:
        if _is_being_set_up(pod):
            metadata = pod["metadata"]
            events = await api.pod_events(metadata["namespace"], metadata["name"])
            warnings = [event for event in events if event.get("type") == "Warning"]
            if warnings:
                found[metadata["name"]] = text_of(warnings[-1])
    return found


def _is_being_set_up(pod: KubeObject) -> bool:
    status: dict[str, Any] = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp") or status.get("phase") != "Pending":
        return False
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return bool(pod["spec"].get("nodeName")) and {waiting_of(item)[0] for item in containers} <= SETTING_UP


async def _one_node(targets: Iterable[Target | None], namespace: str, context: Context) -> frozenset[str]:
    """Return the names of the artifacts' claims whose volumes can be mounted on one node only."""
    found = set()
    for name in {target.claim[0] for target in targets if target is not None and target.claim is not None}:
        claim = context.store.get("PersistentVolumeClaim", namespace, name)
        if claim is None:
            claim = await context.api.read("PersistentVolumeClaim", namespace, name)
        modes = set(((claim or {}).get("spec") or {}).get("accessModes") or ())
        if modes and not modes & _MANY_NODES:
            found.add(name)
    return frozenset(found)
