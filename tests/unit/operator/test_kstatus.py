"""GitOps: never Current before the end, never Failed while it can still succeed."""

import inspect
from itertools import product

import pytest

from support.kstatus import CURRENT, FAILED, IN_PROGRESS, TERMINATING, kstatus
from support.workspaces import (
    DIGEST,
    OVERDUE,
    a_deployment,
    a_job,
    a_pod,
    a_workspace,
    child,
    conditions_of,
    decided,
    ended,
    served,
    waiting,
)
from tunesmith_api import status as state
from tunesmith_api.codegen.crd import custom_resource_definitions
from tunesmith_api.work_folder import Stage


def an_object(status, generation=1):
    return {"metadata": {"generation": generation}, "status": status}


def conditions(**values):
    return [{"type": kind, "status": value} for kind, value in values.items()]


# The table of what was seen with the real ones.
SEEN = {
    "no status": ({}, CURRENT),
    "observedGeneration only": ({"observedGeneration": 1}, CURRENT),
    "behind": ({"observedGeneration": 0, "conditions": conditions(Ready="True")}, IN_PROGRESS),
    "by CRD default": ({"observedGeneration": -1}, IN_PROGRESS),
    "ready": ({"conditions": conditions(Ready="True")}, CURRENT),
    "unknown": ({"conditions": conditions(Ready="Unknown")}, IN_PROGRESS),
    "not ready, not stalled": ({"conditions": conditions(Ready="False")}, IN_PROGRESS),
    "ready and reconciling": ({"conditions": conditions(Ready="True", Reconciling="True")}, IN_PROGRESS),
    "stalled": ({"conditions": conditions(Ready="False", Stalled="True")}, FAILED),
    "stalled and reconciling": ({"conditions": conditions(Reconciling="True", Stalled="True")}, IN_PROGRESS),
}


@pytest.mark.parametrize(("status", "expected"), SEEN.values(), ids=SEEN)
def test_the_rules_are_those_that_were_seen(status, expected):
    assert kstatus(an_object(status)) == expected


def test_what_goes_is_terminating():
    assert kstatus({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}) == TERMINATING


def test_a_new_object_is_in_progress_before_anybody_has_looked():
    for definition in custom_resource_definitions():
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        assert kstatus(an_object(schema["properties"]["status"]["default"])) == IN_PROGRESS


JOB = state.running(state.accepted({}), Stage.TRAIN, {"train": 1})
SERVING = state.serving({"observedGeneration": 1}, "http://x/v1", DIGEST["a"], "/a")
BEFORE = [
    {"observedGeneration": 1},
    state.accepted({}),
    JOB,
    SERVING,
    state.failed(JOB, "X", "x"),
    state.completed(JOB, {"uri": "/a"}, {}),
]

# What each function of status.py stands for. None: it leaves the conditions as they are.
MEANING = {
    "accepted": (lambda s: state.accepted(s), IN_PROGRESS),
    "running": (lambda s: state.running(s, Stage.PUBLISH, {}), IN_PROGRESS),
    "publish_restarted": (lambda s: state.publish_restarted(s), IN_PROGRESS),
    "with_progress": (lambda s: state.with_progress(s, {"step": 1}), None),
    "observed": (lambda s: state.observed(s, 1), None),
    "held": (lambda s: state.held(s, "X", "x"), IN_PROGRESS),
    "suspended": (lambda s: state.suspended(s, "x"), IN_PROGRESS),
    "queued": (lambda s: state.queued(s, "q"), IN_PROGRESS),
    "waiting": (lambda s: state.waiting(s, "X", "x"), IN_PROGRESS),
    "interrupted": (lambda s: state.interrupted(s, Stage.TRAIN), IN_PROGRESS),
    "completed": (lambda s: state.completed(s, {"uri": "/a"}, {}), CURRENT),
    "failed": (lambda s: state.failed(s, "X", "x"), FAILED),
    "progressing": (lambda s: state.progressing(s, "x"), IN_PROGRESS),
    "serving": (lambda s: state.serving(s, "http://x/v1", DIGEST["b"], "/b"), CURRENT),
    "scaled_to_zero": (lambda s: state.scaled_to_zero(s), CURRENT),
    "stopped": (lambda s: state.stopped(s), IN_PROGRESS),
    "rolling_out": (lambda s: state.rolling_out(s, "X", "x"), IN_PROGRESS),
    "blocked": (lambda s: state.blocked(s, "X", "x"), FAILED),
}
NOT_A_STATUS = {"now", "with_condition", "is_finished", "trained"}


def test_every_function_of_the_module_is_here():
    names = {
        name
        for name, function in inspect.getmembers(state, inspect.isfunction)
        if function.__module__.startswith(f"{state.__name__}.") and not name.startswith("_")
    }
    assert names == set(MEANING) | NOT_A_STATUS


@pytest.mark.parametrize("name", MEANING)
@pytest.mark.parametrize("before", BEFORE, ids=lambda status: status.get("phase", "new"))
def test_what_each_status_is_to_gitops_tools(name, before):
    make, expected = MEANING[name]
    assert kstatus(an_object(make(before))) == (expected or kstatus(an_object(before)))
    if expected:
        # An older generation's status says nothing of this one.
        assert kstatus(an_object(make(before), generation=2)) == IN_PROGRESS


# Every combination of facts about a workspace: its job, what it served before, its Deployment and its pods.
JOBS = {
    "no job": (),
    "job at work": (a_job("job-b"),),
    "job failed": (a_job("job-b", failed="GateFailed"),),
    "job done": (a_job("job-b", DIGEST["b"]),),
}
PASTS = ["nothing served", "another served", "this served"]
DEPLOYMENTS = ["none", "stale", "behind", "partial", "complete", "overdue"]
NEW_PODS = {
    "no pods": None,
    "starting": {},
    "unschedulable": {
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1"}]
    },
    "pulling": {"server": waiting("ImagePullBackOff", "not found")},
    "no secret": {"server": waiting("CreateContainerConfigError", 'secret "x" not found')},
    "refused once": {"server": ended(2, "bad")},
    "refused twice": {"server": ended(2, "bad", restarts=1)},
    "ready": {"ready": True},
}


def facts(past, jobs, deployment, pod):
    """The workspace, and what is observed of it."""
    if past == "nothing served":
        workspace, old = a_workspace(model={"fineTuneJob": "job-b"}), None
    elif past == "another served":
        workspace, old = served(a_job("job-a", DIGEST["a"]))
        workspace["spec"] = {**workspace["spec"], "model": {"fineTuneJob": "job-b"}}
    else:
        workspace, old = served(a_job("job-b", DIGEST["b"]), model={"fineTuneJob": "job-b"})
    desired = child(decided(workspace, *jobs), "Deployment")
    pods = [a_pod(old, "old", ready=True)] if past == "another served" and deployment != "complete" else []
    there = None
    if desired is not None and deployment != "none":
        count = 1 if deployment == "complete" else 0
        there = a_deployment(desired, updated=1, available=count, conditions=OVERDUE if deployment == "overdue" else [])
        if deployment == "stale":
            there["spec"]["template"]["metadata"]["labels"]["tunesmith.dev/template"] = "other"
        if deployment == "behind":
            there["metadata"]["generation"] += 1
        if pod is not None:
            pods.append(a_pod(desired, "new", **pod))
    return workspace, {"deployment": there, "pods": tuple(pods)}


@pytest.mark.parametrize(("job", "past", "deployment", "pod"), list(product(JOBS, PASTS, DEPLOYMENTS, NEW_PODS)))
def test_a_workspace_is_never_current_too_early_nor_failed_too_soon(job, past, deployment, pod):
    workspace, observed = facts(past, JOBS[job], deployment, NEW_PODS[pod])
    status = decided(workspace, *JOBS[job], **observed).status
    verdict = kstatus({"metadata": workspace["metadata"], "status": status})
    is_wanted = job == "job done" or (job == "no job" and past == "this served")
    if verdict == CURRENT:
        # Nothing is left to do: the artifact that is asked for is what the Deployment serves, all of it.
        assert is_wanted and deployment == "complete"
        assert status["revision"] == "b" * 10
    elif verdict == FAILED:
        # Somebody must do something: the job has failed, the artifact is refused again and again, or time is over.
        is_refused = pod == "refused twice" and observed["deployment"] is not None
        assert job == "job failed" or is_refused or (deployment == "overdue" and observed["deployment"] is not None)
    if deployment == "complete" and pod in ("ready", "no pods") and is_wanted:
        assert verdict == CURRENT
    if job == "job failed" and past == "nothing served":
        assert verdict == FAILED
    assert (
        conditions_of(status)
        in {
            CURRENT: {("True", "False", "False")},
            IN_PROGRESS: {("Unknown", "True", "False")},
            FAILED: {("False", "False", "True")},
        }[verdict]
    )
