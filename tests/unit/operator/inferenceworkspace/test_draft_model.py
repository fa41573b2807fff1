"""A workspace's draft model: waited for like the model, and mounted or fetched like it."""

import asyncio

import pytest

from support.workspaces import (
    DIGEST,
    SETTINGS,
    MemoryApi,
    MemoryStore,
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
)
from tunesmith_api.objects.inferenceworkspace import InferenceWorkspaceSpec
from tunesmith_operator.engine.reconciler import Context
from tunesmith_operator.inferenceworkspace.observe import observe
from tunesmith_operator.inferenceworkspace.reconciler import InferenceWorkspaceReconciler

WORKING, DONE, STALLED = ("Unknown", "True", "False"), ("True", "False", "False"), ("False", "False", "True")
A, SMALL = a_job("job-a", DIGEST["a"]), a_job("small", DIGEST["d"])
NAMED = {"draftModel": {"fineTuneJob": "small"}}


def pod_of(*jobs, **spec):
    return child(decided(a_workspace(**spec), *jobs), "Deployment")["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("small", "conditions", "reason", "said"),
    [
        (None, WORKING, "WaitingForJob", "The draft model: There is no FineTuneJob small in this namespace; apply it, "
         "or correct spec.runtime.draftModel.fineTuneJob"),
        (a_job("small"), WORKING, "WaitingForJob", "The draft model: FineTuneJob small is Training"),
        (a_job("small", failed="GateFailed"), STALLED, "JobFailed", "spec.runtime.draftModel.fineTuneJob; or delete"),
        (a_job("small", DIGEST["d"], base=DIGEST["e"]), STALLED, "InvalidArtifact",
         "FineTuneJob small publishes an adapter, and a draft model is a whole one; train it with export: "),
        (a_job("small", DIGEST["d"], uri="/srv/small"), STALLED, "InvalidSpec", "write pvc://CLAIM/PATH"),
    ],
)  # fmt: skip
def test_a_workspace_waits_for_its_draft_model(small, conditions, reason, said):
    decision = decided(a_workspace(runtime=NAMED), A, *([small] if small else []))
    assert decision.apply == ()
    assert (conditions_of(decision.status), reason_of(decision.status)) == (conditions, reason)
    assert said in message_of(decision.status)
    assert decision.status["resolved"]["model"]["value"]["fineTuneJob"] == "job-a"
    assert "draftModel" not in decision.status["resolved"]


def test_the_model_is_waited_for_first():
    decision = decided(a_workspace(runtime=NAMED), a_job(), a_job("small"))
    assert "FineTuneJob job-a is Training" in message_of(decision.status)


@pytest.mark.parametrize(("failed", "conditions"), [("", WORKING), ("GateFailed", STALLED)])
def test_what_is_served_stays_while_a_new_draft_model_is_waited_for(failed, conditions):
    workspace, there = served(A)
    workspace = {**workspace, "spec": {**workspace["spec"], "runtime": NAMED}}
    pods = (a_pod(there, "old", ready=True),)
    decision = decided(workspace, A, a_job("small", failed=failed), deployment=there, pods=pods)
    assert (decision.apply, decision.delete) == ((), ())
    assert conditions_of(decision.status) == conditions
    assert message_of(decision.status).endswith("What was there before is served on")
    assert (decision.status["replicas"], decision.status["readyReplicas"]) == (1, 1)
    after = decided({**workspace, "status": decision.status}, A, SMALL, deployment=there, pods=pods)
    assert reason_of(after.status) == "RollingOut"
    assert child(after, "Deployment") is not None


def test_a_draft_model_that_was_served_stays_when_its_job_is_deleted_or_made_anew():
    workspace, there = served(A, SMALL, runtime=NAMED)
    pods = (a_pod(there, "old", ready=True),)
    gone = decided(workspace, A, deployment=there, pods=pods)
    assert conditions_of(gone.status) == DONE
    anew = decided(workspace, A, a_job("small"), deployment=there, pods=pods)
    assert child(anew, "Deployment")["spec"]["template"] == there["spec"]["template"]
    assert (reason_of(anew.status), conditions_of(anew.status)) == ("WaitingForJob", WORKING)
    without = {**workspace, "spec": {**workspace["spec"], "runtime": {}}}
    assert "draftModel" not in decided(without, A, deployment=there, pods=pods).status["resolved"]


def test_a_workspace_of_zero_replicas_does_not_wait():
    decision = decided(a_workspace(runtime=NAMED, replicas=0), A)
    assert reason_of(decision.status) == "ScaledToZero"


def test_a_draft_model_on_another_volume():
    pod = pod_of(A, SMALL, runtime=NAMED)
    server = pod["containers"][0]
    options = dict(zip(server["args"][::2], server["args"][1::2], strict=True))
    assert (options["--draft-model"], options["--draft-digest"]) == ("/draft", DIGEST["d"])
    assert {"name": "draft", "persistentVolumeClaim": {"claimName": "small-work", "readOnly": True}} in pod["volumes"]
    mount = {"name": "draft", "mountPath": "/draft", "readOnly": True, "subPath": "small/artifact"}
    assert mount in server["volumeMounts"]
    assert "initContainers" not in pod


def test_a_draft_model_on_the_volume_of_the_model():
    pod = pod_of(A, runtime={"draftModel": {"uri": "pvc://job-a-work/small"}})
    assert [volume["name"] for volume in pod["volumes"]] == ["artifact", "tmp"]
    mount = {"name": "artifact", "mountPath": "/draft", "readOnly": True, "subPath": "small"}
    assert mount in pod["containers"][0]["volumeMounts"]
    assert "--draft-digest" not in pod["containers"][0]["args"]


@pytest.mark.parametrize("model", [{"fineTuneJob": "job-a"}, {"uri": "s3://bucket/big"}])
def test_a_draft_model_in_an_object_store(model):
    given = {"uri": "s3://bucket/small", "secretRef": {"name": "key"}}
    pod = pod_of(A, model=model, runtime={"draftModel": given, "precision": "int8"})
    fetch = pod["initContainers"][0]
    assert [each["name"] for each in pod["initContainers"]] == ["fetch-draft", *(["fetch"] if "uri" in model else [])]
    # The draft model's precision is its own: the smallest that it holds.
    assert fetch["args"] == ["fetch", "s3://bucket/small", "/draft", "--precision", "smallest"]
    assert fetch["envFrom"] == [{"secretRef": {"name": "key"}}]
    assert {"name": "draft", "mountPath": "/draft"} in fetch["volumeMounts"]
    assert {"name": "draft", "emptyDir": {}} in pod["volumes"]


def test_a_draft_model_that_cannot_be_fetched_names_its_field():
    workspace = a_workspace(runtime={"draftModel": {"uri": "s3://bucket/small"}})
    first = decided(workspace, A)
    there = a_deployment(child(first, "Deployment"), updated=1, available=0)
    pod = a_pod(there, **{"fetch-draft": ended(1, "the bucket does not exist", restarts=4)})
    status = decided({**workspace, "status": first.status}, A, deployment=there, pods=(pod,)).status
    assert "Check spec.runtime.draftModel.uri and spec.runtime.draftModel.secretRef" in message_of(status)


def test_a_claim_for_one_node_keeps_the_servers_together():
    async def ask(*_):
        return {}

    modes = {"small-work": "ReadWriteOnce", "job-a-work": "ReadWriteMany"}
    claims = [
        {"kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {"accessModes": [mode]}}
        for name, mode in modes.items()
    ]
    workspace = a_workspace(runtime=NAMED)
    context = Context(MemoryStore(A, SMALL), MemoryApi(*claims))
    spec = InferenceWorkspaceSpec.model_validate(workspace["spec"])
    observed = asyncio.run(observe(workspace, spec, context, ask))
    assert observed.one_node == {"small-work"}
    assert observed.draft.target.digest == DIGEST["d"]
    assert "podAffinity" in str(child(decided(workspace, A, SMALL, one_node=observed.one_node), "Deployment"))


def test_the_draft_models_job_wakes_the_workspace():
    reconciler = InferenceWorkspaceReconciler(SETTINGS)
    workspace, _ = served(A, SMALL, runtime=NAMED)
    for before in (a_workspace(runtime=NAMED), {**workspace, "spec": {**workspace["spec"], "runtime": {}}}):
        assert reconciler.map_to_names("FineTuneJob", SMALL, MemoryStore(before)) == ["faq"]
    assert reconciler.map_to_names("FineTuneJob", SMALL, MemoryStore(a_workspace())) == []
