"""What is decided of a workspace, whatever is observed."""

import pytest

from support.workspaces import (
    DIGEST,
    OVERDUE,
    UID,
    a_deployment,
    a_job,
    a_pod,
    a_workspace,
    child,
    conditions_of,
    decided,
    ended,
    message_of,
    reason_of,
    served,
    waiting,
)
from tunesmith_api.objects import InferenceWorkspaceStatus
from tunesmith_operator.engine.reconciler import ApplyError, ObjectRef

WORKING, DONE, STALLED = ("Unknown", "True", "False"), ("True", "False", "False"), ("False", "False", "True")
A, B = a_job("job-a", DIGEST["a"]), a_job("job-b", DIGEST["b"])
BAD = ended(2, "loading\ntunesmith-serving: model.onnx is damaged; publish the artifact again\n", restarts=1)


def rolling(replicas=1, **spec):
    """A workspace in its first rollout, and its Deployment as decided."""
    workspace = a_workspace(replicas=replicas, **spec)
    first = decided(workspace, A)
    return {**workspace, "status": first.status}, child(first, "Deployment")


def moving():
    """A workspace that serves job-a and was changed to job-b: itself, the old Deployment, and the one decided."""
    workspace, old = served(A, B)
    workspace = {**workspace, "spec": {**workspace["spec"], "model": {"fineTuneJob": "job-b"}}}
    workspace["metadata"] = {**workspace["metadata"], "generation": 2}
    change = decided(workspace, A, B, deployment=old, pods=(a_pod(old, "old", ready=True),))
    return {**workspace, "status": change.status}, old, child(change, "Deployment")


def test_the_first_status_says_that_it_was_seen():
    decision = decided(a_workspace(generation=4))
    assert decision.status["observedGeneration"] == 4
    assert conditions_of(decision.status) == WORKING
    assert reason_of(decision.status) == "WaitingForJob"
    assert decision.apply == ()
    assert [note.reason for note in decision.events] == ["WaitingForJob"]


def test_a_failed_job_ends_it_until_another_comes():
    workspace = a_workspace()
    decision = decided(workspace, a_job(failed="GateFailed"))
    assert conditions_of(decision.status) == STALLED
    assert (decision.status["phase"], reason_of(decision.status)) == ("Failed", "JobFailed")
    assert decision.events[0].type == "Warning"
    again = decided({**workspace, "status": decision.status}, A)
    assert conditions_of(again.status) == WORKING
    assert reason_of(again.status) == "RollingOut"


def test_a_failed_job_among_those_that_are_followed_is_waited_out():
    model = {"fineTuneJobSelector": {"matchLabels": {"app": "faq"}}}
    decision = decided(a_workspace(model=model), a_job(failed="GateFailed", labels={"app": "faq"}))
    assert conditions_of(decision.status) == WORKING


def test_what_is_made_for_a_completed_job():
    decision = decided(a_workspace(), A)
    assert [obj["kind"] for obj in decision.apply] == ["Deployment", "Service"]
    for obj in decision.apply:
        assert obj["metadata"]["name"] == "faq"
        assert obj["metadata"]["labels"]["tunesmith.dev/owner-uid"] == UID
        (owner,) = obj["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (UID, True)
    assert conditions_of(decision.status) == WORKING
    assert decision.status["selector"] == f"tunesmith.dev/owner-uid={UID}"
    assert decision.status["resolved"]["model"]["value"]["fineTuneJob"] == "job-a"
    assert "endpoint" not in decision.status and "revision" not in decision.status


def test_with_several_servers_there_is_a_budget():
    kinds = [obj["kind"] for obj in decided(a_workspace(replicas=2), A).apply]
    assert kinds == ["Deployment", "Service", "PodDisruptionBudget"]


@pytest.mark.parametrize(
    ("change", "is_done"),
    [
        ({}, True),
        ({"updated": 1, "total": 2}, False),
        ({"available": 1}, False),
        ({"total": 3}, False),
        ({"old_pod": True}, False),
        ({"ending_pod": True}, True),
        ({"behind": True}, False),
        ({"other_template": True}, False),
        ({"other_replicas": True}, False),
    ],
    ids=str,
)
def test_serving_means_that_everything_is_as_wanted(change, is_done):
    workspace, deployment = rolling(2)
    numbers = {
        "updated": 2,
        "available": 2,
        **{key: change[key] for key in ("updated", "available", "total") if key in change},
    }
    there = a_deployment(deployment, **numbers)
    pods = [a_pod(deployment, f"new-{number}", ready=True) for number in range(2)]
    if "behind" in change:
        there["metadata"]["generation"] += 1
    if "other_replicas" in change:
        there["spec"]["replicas"] = 3
    if "other_template" in change:
        there["spec"]["template"]["metadata"]["labels"]["tunesmith.dev/template"] = "other"
    if "old_pod" in change or "ending_pod" in change:
        pods.append(a_pod(deployment, "old", ready=True, ending="ending_pod" in change))
        pods[-1]["metadata"]["labels"]["tunesmith.dev/template"] = "other"
    status = decided(workspace, A, deployment=there, pods=tuple(pods)).status
    assert conditions_of(status) == (DONE if is_done else WORKING)
    assert reason_of(status) == ("Serving" if is_done else "RollingOut")


@pytest.mark.parametrize(
    ("task", "path"),
    [
        ("textGeneration", "/v1"), ("translation", "/v1"), (None, "/v1"), ("sequenceClassification", ""),
        ("tokenClassification", ""), ("questionAnswering", ""),
    ],
)  # fmt: skip
def test_the_endpoint_is_the_base_url_of_the_clients_of_a_task(task, path):
    job = a_job("job-a", DIGEST["a"])
    job["spec"] = {"task": task} if task else {}
    workspace, deployment = served(job)
    assert workspace["status"]["endpoint"] == f"http://faq.team.svc.cluster.local{path}"
    pods = (a_pod(deployment, ready=True),)
    gone = decided(workspace, deployment=deployment, pods=pods).status
    assert gone["endpoint"] == f"http://faq.team.svc.cluster.local{path}", "the task is known without its job"


def test_serving():
    workspace, _ = served(A, replicas=2)
    status = workspace["status"]
    assert status["endpoint"] == "http://faq.team.svc.cluster.local/v1"
    assert (status["revision"], status["replicas"], status["readyReplicas"]) == ("a" * 10, 2, 2)
    assert [item["revision"] for item in status["history"]] == ["a" * 10]
    assert (status["phase"], conditions_of(status)) == ("Serving", DONE)
    assert InferenceWorkspaceStatus.model_validate(status).model_extra == {}


def test_nothing_is_told_or_changed_when_nothing_happens():
    workspace, deployment = served(A)
    pods = (a_pod(deployment, "old-0", ready=True),)
    again = decided(workspace, A, deployment=deployment, pods=pods)
    assert again.status == workspace["status"]
    assert again.events == ()
    assert again.requeue_after is None


def test_a_change_is_in_progress_while_the_old_revision_serves():
    workspace, old, new = moving()
    there = a_deployment(new, updated=1, available=1, total=2)
    pods = (a_pod(old, "old", ready=True), a_pod(new, "new"))
    status = decided(workspace, A, B, deployment=there, pods=pods).status
    assert conditions_of(status) == WORKING
    assert (status["revision"], status["readyReplicas"], status["replicas"]) == ("a" * 10, 1, 2)
    there = a_deployment(new, updated=1, available=1)
    status = decided(workspace, A, B, deployment=there, pods=(a_pod(new, "new", ready=True),)).status
    assert conditions_of(status) == DONE
    assert (status["revision"], status["previousRevision"]) == ("b" * 10, "a" * 10)
    assert [item["revision"] for item in status["history"]] == ["a" * 10, "b" * 10]


def test_a_blocked_rollout_leaves_the_old_revision_serving():
    workspace, old, new = moving()
    there = a_deployment(new, updated=1, available=1, total=2)
    pods = (a_pod(old, "old", ready=True), a_pod(new, "new", server=BAD))
    decision = decided(workspace, A, B, deployment=there, pods=pods)
    status = decision.status
    assert (conditions_of(status), reason_of(status), status["phase"]) == (STALLED, "RolloutBlocked", "Blocked")
    assert (status["revision"], status["readyReplicas"]) == ("a" * 10, 1)
    assert "endpoint" in status
    for words in (
        "InvalidArtifact",
        "model.onnx is damaged",
        "publish the artifact again",
        f"Revision {'a' * 10} is served on",
    ):
        assert words in message_of(status)
    assert child(decision, "Deployment") == new, "the Deployment stays as the spec wants it"
    # Its pods become ready after all: no other word is needed.
    recovered = decided({**workspace, "status": status}, A, B, deployment=there,
                        pods=(a_pod(old, "old", ready=True), a_pod(new, "new", ready=True)))  # fmt: skip
    assert conditions_of(recovered.status) == WORKING


def test_a_blocked_rollout_is_left_by_a_change_of_the_spec():
    workspace, old, new = moving()
    there = a_deployment(new, updated=1, available=1, total=2)
    pods = (a_pod(old, "old", ready=True), a_pod(new, "new", server=BAD))
    blocked = decided(workspace, A, B, deployment=there, pods=pods).status
    back = {**workspace, "spec": {**workspace["spec"], "model": {"fineTuneJob": "job-a"}}, "status": blocked}
    back["metadata"] = {**workspace["metadata"], "generation": 3}
    decision = decided(back, A, B, deployment=there, pods=pods)
    assert conditions_of(decision.status) == WORKING
    assert child(decision, "Deployment")["spec"]["template"] == old["spec"]["template"], "the same pods are kept"
    there = a_deployment(child(decision, "Deployment"), updated=1, available=1)
    status = decided({**back, "status": decision.status}, A, B, deployment=there, pods=pods[:1]).status
    assert (conditions_of(status), status["revision"]) == (DONE, "a" * 10)
    assert [item["revision"] for item in status["history"]] == ["a" * 10]


def test_old_pods_that_fail_are_not_the_new_ones_failure():
    workspace, old, new = moving()
    there = a_deployment(new, updated=1, available=0, total=2)
    status = decided(workspace, A, B, deployment=there, pods=(a_pod(old, "old", server=BAD), a_pod(new, "new"))).status
    assert conditions_of(status) == WORKING


FIRST = {
    "refused once": (ended(2, "x is damaged"), WORKING, "InvalidArtifact"),
    "refused twice": (BAD, STALLED, "InvalidArtifact"),
    "killed for memory once": (ended(137, reason="OOMKilled"), WORKING, "OutOfMemory"),
    "killed for memory twice": (ended(137, reason="OOMKilled", restarts=1), STALLED, "OutOfMemory"),
    "too little memory": (ended(3, "tunesmith-serving: needs 9 GiB", restarts=1), STALLED, "OutOfMemory"),
    "crashed twice": (ended(139, restarts=1), WORKING, "ServerFailed"),
    "crashed thrice": (ended(139, restarts=2), STALLED, "ServerFailed"),
    "image": (waiting("ImagePullBackOff", "not found"), WORKING, "ImagePullFailed"),
    "no image's name": (waiting("InvalidImageName"), STALLED, "ImagePullFailed"),
    "no secret": (waiting("CreateContainerConfigError", 'secret "key" not found'), WORKING, "SecretNotFound"),
}


@pytest.mark.parametrize(("container", "conditions", "reason"), FIRST.values(), ids=FIRST)
def test_the_first_rollout_fails_by_its_cause(container, conditions, reason):
    workspace, deployment = rolling()
    there = a_deployment(deployment, updated=1, available=0)
    status = decided(workspace, A, deployment=there, pods=(a_pod(deployment, server=container),)).status
    assert (conditions_of(status), reason_of(status)) == (conditions, reason)
    assert status["phase"] == ("Failed" if conditions == STALLED else "Progressing")
    assert "revision" not in status


UNSCHEDULABLE = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]


def test_without_room_it_waits_until_the_deadline():
    workspace, deployment = rolling()
    pod = a_pod(deployment, phase="Pending", conditions=UNSCHEDULABLE, containerStatuses=[])
    status = decided(workspace, A, deployment=a_deployment(deployment, updated=1, available=0), pods=(pod,)).status
    assert (conditions_of(status), reason_of(status)) == (WORKING, "Unschedulable")
    assert "0/3 nodes" in message_of(status)
    there = a_deployment(deployment, updated=1, available=0, conditions=OVERDUE)
    status = decided(workspace, A, deployment=there, pods=(pod,)).status
    assert (conditions_of(status), reason_of(status)) == (STALLED, "Unschedulable")
    # The deadline of another template says nothing of this one.
    there["spec"]["template"]["metadata"]["labels"]["tunesmith.dev/template"] = "other"
    assert conditions_of(decided(workspace, A, deployment=there, pods=(pod,)).status) == WORKING


def test_a_part_of_the_servers_is_better_than_none():
    workspace, deployment = rolling(2)
    there = a_deployment(deployment, updated=2, available=1, conditions=OVERDUE)
    pods = (a_pod(deployment, "one", ready=True), a_pod(deployment, "two", server=waiting("ErrImagePull", "no")))
    status = decided(workspace, A, deployment=there, pods=pods).status
    assert (conditions_of(status), reason_of(status), status["phase"]) == (STALLED, "ImagePullFailed", "Blocked")
    assert "1 servers are ready" in message_of(status)


def test_a_deadline_without_a_known_cause():
    workspace, deployment = rolling()
    there = a_deployment(deployment, updated=1, available=0, conditions=OVERDUE)
    status = decided(workspace, A, deployment=there, pods=(a_pod(deployment),)).status
    assert (conditions_of(status), reason_of(status)) == (STALLED, "DeadlineExceeded")
    assert "600 s" in message_of(status)


@pytest.mark.parametrize(
    ("message", "reason"),
    [('pods "x" is forbidden: exceeded quota: q', "QuotaExceeded"), ("violates PodSecurity", "PodsForbidden")],
)
def test_pods_that_may_not_be_made(message, reason):
    workspace, deployment = rolling()
    refused = [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}]
    there = a_deployment(deployment, updated=0, available=0, conditions=refused)
    status = decided(workspace, A, deployment=there).status
    assert (conditions_of(status), reason_of(status)) == (WORKING, reason)
    assert message in message_of(status)


def test_a_server_that_is_lost_is_waited_for():
    workspace, deployment = served(A, replicas=2)
    there = a_deployment(deployment, updated=2, available=1)
    pods = (a_pod(deployment, "one", ready=True), a_pod(deployment, "two", server=ended(139, restarts=9)))
    status = decided(workspace, A, deployment=there, pods=pods).status
    assert (conditions_of(status), status["readyReplicas"]) == (WORKING, 1)
    assert reason_of(status) == "ServerFailed"
    assert "1 of 2 servers" in message_of(status)


def test_evicted_pods_hold_nobody_up():
    workspace, deployment = rolling()
    evicted = {"phase": "Failed", "reason": "Evicted", "message": "disk pressure", "containerStatuses": []}
    there = a_deployment(deployment, updated=1, available=0)
    status = decided(workspace, A, deployment=there, pods=(a_pod(deployment, "gone", **evicted),)).status
    assert (conditions_of(status), reason_of(status)) == (WORKING, "Evicted")
    pods = (a_pod(deployment, "gone", **evicted), a_pod(deployment, "new"))
    status = decided(workspace, A, deployment=there, pods=pods).status
    assert (reason_of(status), status["replicas"]) == ("RollingOut", 1)
    there = a_deployment(deployment, updated=1, available=1)
    pods = (a_pod(deployment, "gone", **evicted), a_pod(deployment, "new", ready=True))
    assert conditions_of(decided(workspace, A, deployment=there, pods=pods).status) == DONE


def test_the_job_is_deleted_and_its_artifact_served_on():
    workspace, deployment = served(A)
    pods = (a_pod(deployment, "old-0", ready=True),)
    decision = decided(workspace, deployment=deployment, pods=pods)
    assert conditions_of(decision.status) == DONE
    assert child(decision, "Deployment")["spec"]["template"] == deployment["spec"]["template"]


@pytest.mark.parametrize(
    ("job", "conditions", "reason"),
    [
        (a_job("job-b"), WORKING, "WaitingForJob"),
        (a_job("job-c"), WORKING, "WaitingForJob"),
        (a_job("job-b", failed="GateFailed"), STALLED, "JobFailed"),
    ],
)
def test_what_is_not_there_yet_leaves_the_old_revision_serving(job, conditions, reason):
    workspace, deployment = served(A)
    workspace = {**workspace, "spec": {**workspace["spec"], "model": {"fineTuneJob": "job-b"}}}
    workspace["metadata"] = {**workspace["metadata"], "generation": 2}
    pods = (a_pod(deployment, "old-0", ready=True),)
    decision = decided(workspace, A, job, deployment=deployment, pods=pods)
    assert (conditions_of(decision.status), reason_of(decision.status)) == (conditions, reason)
    assert f"Revision {'a' * 10} is served on" in message_of(decision.status)
    assert (decision.status["revision"], decision.status["readyReplicas"]) == ("a" * 10, 1)
    assert child(decision, "Deployment")["spec"]["template"] == deployment["spec"]["template"]
    assert {item["observedGeneration"] for item in decision.status["conditions"]} == {2}
    assert decision.status["resolved"] == workspace["status"]["resolved"]


def test_scaled_to_zero():
    workspace, deployment = served(A, replicas=2)
    workspace = {**workspace, "spec": {**workspace["spec"], "replicas": 0}}
    pods = tuple(a_pod(deployment, f"old-{number}", ready=True) for number in range(2))
    decision = decided(workspace, A, deployment=deployment, pods=pods)
    assert (conditions_of(decision.status), reason_of(decision.status)) == (WORKING, "ScalingDown")
    assert child(decision, "Deployment")["spec"]["replicas"] == 0
    there = a_deployment(child(decision, "Deployment"), updated=0, available=0)
    status = decided({**workspace, "status": decision.status}, A, deployment=there).status
    assert (conditions_of(status), reason_of(status), status["phase"]) == (DONE, "ScaledToZero", "Stopped")
    assert (status["replicas"], status["readyReplicas"], status["revision"]) == (0, 0, "a" * 10)
    assert "endpoint" not in status


@pytest.mark.parametrize("jobs", [(), (a_job(),), (a_job(failed="X"),), (A,)], ids=["none", "works", "failed", "done"])
def test_no_servers_are_wanted_from_the_start(jobs):
    decision = decided(a_workspace(replicas=0), *jobs)
    assert conditions_of(decision.status) == DONE
    assert decision.apply == ()


def test_no_servers_are_wanted_and_nobody_knows_what_they_served():
    _, deployment = served(A)
    decision = decided(a_workspace(replicas=0), deployment=deployment)
    assert decision.delete == (ObjectRef("Deployment", "faq"),)


REFUSALS = {
    "taken": (409, "AlreadyExists", "Deployment faq exists and was not made for this object", WORKING, "NameTaken"),
    "invalid": (422, "Invalid", "spec.template.metadata.labels: Invalid value", STALLED, "InvalidSpec"),
    "forbidden": (403, "Forbidden", "deployments is forbidden", WORKING, "Forbidden"),
    "quota": (403, "Forbidden", "exceeded quota: q", WORKING, "QuotaExceeded"),
}


@pytest.mark.parametrize(("code", "why", "message", "conditions", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_what_the_api_server_refuses(code, why, message, conditions, reason):
    workspace, _ = rolling()
    errors = (ApplyError(ObjectRef("Deployment", "faq"), code, why, message),)
    decision = decided(workspace, A, errors=errors)
    assert (conditions_of(decision.status), reason_of(decision.status)) == (conditions, reason)
    assert message in message_of(decision.status)
    assert decision.apply, "it is tried again"
    # A corrected spec is not judged by what the one before was refused for.
    workspace["metadata"] = {**workspace["metadata"], "generation": 2}
    assert reason_of(decided(workspace, A, errors=errors).status) == "RollingOut"


def test_a_workspace_that_is_being_deleted_is_left_alone():
    workspace = a_workspace()
    workspace["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    decision = decided(workspace, A)
    assert (decision.status, decision.apply, decision.delete) == (None, (), ())


def test_volumes_are_looked_after_while_a_pod_is_set_up():
    workspace, deployment = rolling()
    pod = a_pod(deployment, "new", phase="Pending", server=waiting("ContainerCreating"))
    there = a_deployment(deployment, updated=1, available=0)
    assert decided(workspace, A, deployment=there, pods=(pod,)).requeue_after is not None
    decision = decided(workspace, A, deployment=there, pods=(pod,), events={"new": "Multi-Attach error for volume"})
    assert (conditions_of(decision.status), reason_of(decision.status)) == (WORKING, "VolumeNotMounted")
    assert "Multi-Attach error" in message_of(decision.status)
    assert decision.requeue_after is not None, "nothing else tells when it is over"
