"""What is gathered for a decision, and who is woken by a job."""

import pytest

from support.workspaces import (
    DIGEST,
    SETTINGS,
    UID,
    MemoryApi,
    MemoryStore,
    a_deployment,
    a_job,
    a_pod,
    a_workspace,
    child,
    conditions_of,
    decided,
    message_of,
    reason_of,
    reconciled,
    served,
    waiting,
)
from tunesmith_operator.inferenceworkspace import InferenceWorkspaceReconciler

RECONCILER = InferenceWorkspaceReconciler(SETTINGS)
JOB = a_job("job-a", DIGEST["a"])
FOLLOWING = {"fineTuneJobSelector": {"matchLabels": {"app": "faq"}}}


def claim(*modes, name="job-a-work"):
    metadata = {"name": name, "namespace": "team"}
    return {"kind": "PersistentVolumeClaim", "metadata": metadata, "spec": {"accessModes": list(modes)}}


@pytest.mark.parametrize(
    ("modes", "together"),
    [(["ReadWriteOnce"], True), (["ReadWriteOncePod"], True), (["ReadWriteOnce", "ReadWriteMany"], False), ([], False)],
)
def test_the_access_modes_of_the_claim_decide_on_the_place(modes, together):
    for store, api in (((JOB, claim(*modes)), ()), ((JOB,), (claim(*modes),))):
        decision = reconciled(RECONCILER, a_workspace(), MemoryStore(*store), MemoryApi(*api))
        assert ("affinity" in child(decision, "Deployment")["spec"]["template"]["spec"]) is together


def test_a_claim_that_is_not_there_is_no_obstacle():
    decision = reconciled(RECONCILER, a_workspace(), MemoryStore(JOB), MemoryApi())
    assert "affinity" not in child(decision, "Deployment")["spec"]["template"]["spec"]


def test_events_are_read_only_of_pods_that_are_being_set_up():
    workspace = a_workspace()
    first = decided(workspace, JOB)
    workspace["status"] = first.status
    deployment = a_deployment(child(first, "Deployment"), updated=1, available=0)
    creating = a_pod(deployment, "creating", phase="Pending", server=waiting("ContainerCreating"))
    creating["spec"] = {**creating["spec"], "nodeName": "node"}
    pending = a_pod(deployment, "pending", phase="Pending", server=waiting("ContainerCreating"))
    running = a_pod(deployment, "running")
    events = [
        {"type": "Normal", "note": "Scheduled"},
        {"type": "Warning", "note": "older"},
        {"type": "Warning", "note": "MountVolume.SetUp failed"},
        {"type": "Normal", "note": "Pulled"},
    ]
    api = MemoryApi(claim("ReadWriteMany"), events={"creating": events})
    store = MemoryStore(JOB, deployment, creating, pending, running)
    decision = reconciled(RECONCILER, workspace, store, api)
    assert reason_of(decision.status) == "VolumeNotMounted"
    assert [asked for asked in api.asked if asked.startswith("events")] == ["events/creating"]


def test_what_belongs_to_another_is_not_taken_for_its_own():
    workspace, deployment = served(JOB)
    deployment["metadata"]["ownerReferences"][0]["uid"] = "another"
    deployment["metadata"]["labels"]["tunesmith.dev/owner-uid"] = UID
    decision = reconciled(RECONCILER, workspace, MemoryStore(JOB, deployment), MemoryApi())
    assert reason_of(decision.status) == "RollingOut"


@pytest.mark.parametrize("is_serving", [False, True])
def test_a_spec_that_cannot_be_parsed_is_stalled_until_it_changes(is_serving):
    workspace = served(JOB)[0] if is_serving else a_workspace()
    good = workspace["spec"]
    workspace["spec"] = {**good, "runtime": {"maxBatchSize": "many"}}
    workspace["metadata"]["generation"] = 7
    first = reconciled(RECONCILER, workspace, MemoryStore(JOB), MemoryApi())
    assert conditions_of(first.status) == ("False", "False", "True")
    assert (first.status["observedGeneration"], reason_of(first.status)) == (7, "InvalidSpec")
    assert message_of(first.status).startswith("spec.runtime.maxBatchSize: Input should be a valid integer")
    assert first.status["phase"] == ("Blocked" if is_serving else "Failed")
    assert (first.apply, first.delete, first.requeue_after) == ((), (), None), "what serves already goes on"
    assert [event.reason for event in first.events] == ["InvalidSpec"]
    workspace["status"] = first.status
    second = reconciled(RECONCILER, workspace, MemoryStore(JOB), MemoryApi())
    assert (second.status, second.events) == (first.status, ())
    workspace["spec"], workspace["metadata"]["generation"] = good, 8
    third = reconciled(RECONCILER, workspace, MemoryStore(JOB), MemoryApi())
    assert reason_of(third.status) == "RollingOut" and child(third, "Deployment")
    workspace["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    workspace["spec"] = {}
    assert reconciled(RECONCILER, workspace, MemoryStore(JOB), MemoryApi()).status is None
    assert RECONCILER.map_to_names("FineTuneJob", JOB, MemoryStore(workspace)) is not None


def test_who_is_woken_by_a_job():
    named = a_workspace()
    following = a_workspace(model=FOLLOWING)
    other = a_workspace(model={"fineTuneJob": "job-b"})
    by_uri = a_workspace(model={"uri": "s3://b/a"})
    elsewhere = a_workspace()
    for workspace, name in ((named, "named"), (following, "following"), (other, "other"), (by_uri, "by-uri")):
        workspace["metadata"]["name"] = name
    elsewhere["metadata"] |= {"name": "elsewhere", "namespace": "other"}
    store = MemoryStore(named, following, other, by_uri, elsewhere)
    assert RECONCILER.map_to_names("FineTuneJob", a_job("job-a"), store) == ["named"]
    assert RECONCILER.map_to_names("FineTuneJob", a_job("job-a", labels={"app": "faq"}), store) == [
        "named",
        "following",
    ]
    assert RECONCILER.map_to_names("FineTuneJob", a_job("job-x"), store) == []
    assert RECONCILER.map_to_names("Job", a_job("job-a"), store) == []


def test_a_job_that_was_served_and_lost_its_label_wakes_who_followed_it():
    job = a_job("job-a", DIGEST["a"], labels={"app": "faq"})
    workspace, _ = served(job, model=FOLLOWING)
    assert RECONCILER.map_to_names("FineTuneJob", a_job("job-a", DIGEST["a"]), MemoryStore(workspace)) == ["faq"]


def test_the_job_that_was_served_is_looked_at_although_it_lost_its_label():
    new = a_job("job-b", DIGEST["b"], labels={"app": "faq"}, completed="2026-02-01T00:00:00Z")
    old = a_job("job-a", DIGEST["a"], labels={"app": "faq"}, completed="2026-01-01T00:00:00Z")
    workspace, deployment = served(old, new, model=FOLLOWING)
    assert workspace["status"]["revision"] == "b" * 10
    new["metadata"]["labels"] = {}
    decision = reconciled(RECONCILER, workspace, MemoryStore(old, new, deployment), MemoryApi())
    assert decision.status["resolved"]["model"]["value"]["fineTuneJob"] == "job-a"
