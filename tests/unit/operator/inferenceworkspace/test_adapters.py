"""Which adapters the servers of a workspace are told to load, how they learn of it, and what its status says."""

import pytest

from support.workspaces import (
    DIGEST,
    a_deployment,
    a_job,
    a_pod,
    a_workspace,
    adapters_of,
    an_answer,
    child,
    conditions_of,
    decided,
    list_of,
    reason_of,
)
from tunesmith_operator.engine.reconciler import Annotation, ObjectRef
from tunesmith_operator.inferenceworkspace.adapters.lists import SYNCED
from tunesmith_operator.inferenceworkspace.model import Answer
from tunesmith_operator.pods.facts import condition

BASE = DIGEST["f"]
FOLLOWING = {"matchLabels": {"base": "support"}}
ON_CLAIM = "pvc://shared/jobs"
FIRST = a_job("first", DIGEST["a"], base=BASE, labels={"base": "support"})
SECOND = a_job("second", DIGEST["b"], base=BASE, labels={"base": "support"}, completed="2026-02-01T00:00:00Z")


def on_claim(name, digest, claim="shared"):
    job = a_job(name, digest, base=BASE, uri=f"pvc://{claim}/{name}/artifact")
    job["status"]["artifact"]["base"]["uri"] = "pvc://shared/base"
    return job


def workspace(**spec):
    return a_workspace(**{"model": {"fineTuneJob": "first"}, **spec})


def names(decision):
    (content,) = list_of(decision).values()
    return [item["name"] for item in content["adapters"]]


def running(decision, *pods, **facts):
    """What is observed once the Deployment of a decision has its pods."""
    there = child(decision, "Deployment")
    found = tuple(a_pod(there, name, ready=True, **facts) for name in pods)
    return {"deployment": a_deployment(there, updated=len(pods), available=len(pods)), "pods": found}


def test_of_an_adapters_job_the_base_is_served_and_the_adapter_under_the_jobs_name():
    decision = decided(workspace(), FIRST)
    assert decision.status["resolved"]["model"]["value"]["digest"] == BASE
    assert [obj["kind"] for obj in decision.apply] == ["ConfigMap", "Deployment", "Service"]
    ((key, content),) = list_of(decision).items()
    assert key == f"{'f' * 10}.json"
    assert content["adapters"] == [{"name": "first", "path": "s3://bucket/first/artifact", "digest": DIGEST["a"]}]
    pod = child(decision, "Deployment")["spec"]["template"]["spec"]
    assert pod["initContainers"][0]["args"][:2] == ["fetch", "s3://bucket/base"]


def test_a_selector_and_a_list_add_others_and_a_listed_name_wins():
    listed = [{"name": "second", "uri": "s3://bucket/other"}, {"name": "new", "fineTuneJob": "second"}]
    decision = decided(workspace(adapterSelector=FOLLOWING, adapters=listed), FIRST, SECOND)
    ((_, content),) = list_of(decision).items()
    paths = {item["name"]: item["path"] for item in content["adapters"]}
    second = "s3://bucket/second/artifact"
    assert paths == {"first": "s3://bucket/first/artifact", "new": second, "second": "s3://bucket/other"}


def test_of_two_jobs_with_one_name_the_newest_is_served_and_a_deleted_one_is_not():
    named = {"labels": {"base": "support"}, "annotations": {"tunesmith.dev/adapter-name": "billing"}}
    old = a_job("old", DIGEST["c"], base=BASE, completed="2026-01-01T00:00:00Z", **named)
    new = a_job("new", DIGEST["d"], base=BASE, completed="2026-03-01T00:00:00Z", **named)
    wanted = workspace(adapterSelector=FOLLOWING)
    for jobs, digest in (((old, new), "d"), ((old,), "c")):
        ((_, content),) = list_of(decided(wanted, FIRST, *jobs)).items()
        assert {item["name"]: item["digest"] for item in content["adapters"]}["billing"] == DIGEST[digest]
    new["metadata"]["deletionTimestamp"] = "2026-04-01T00:00:00Z"
    assert names(decided(wanted, FIRST, new)) == ["first"]


def test_a_newer_one_on_another_base_takes_no_name_away():
    named = {"labels": {"base": "support"}, "annotations": {"tunesmith.dev/adapter-name": "billing"}}
    fits = a_job("old", DIGEST["c"], base=BASE, completed="2026-01-01T00:00:00Z", **named)
    other = a_job("new", DIGEST["d"], base=DIGEST["e"], completed="2026-03-01T00:00:00Z", **named)
    wanted = workspace(adapterSelector=FOLLOWING)
    assert names(decided(wanted, FIRST, fits, other)) == ["billing", "first"]
    alone = decided(wanted, FIRST, other)
    assert names(alone) == ["first"]
    assert adapters_of(alone.status)["billing"].startswith("Failed: FineTuneJob new was trained on another base")


def test_long_names_that_begin_alike_are_told_apart():
    jobs = [
        a_job(name, DIGEST[name], base=BASE, labels={"base": "support"},
              annotations={"tunesmith.dev/adapter-name": "x" * 70 + name})
        for name in ("b", "c")
    ]  # fmt: skip
    found = adapters_of(decided(workspace(adapterSelector=FOLLOWING), FIRST, *jobs).status)
    assert len(found) == 3
    assert all(len(name) <= 63 for name in found)


def test_the_list_follows_the_jobs_while_a_draft_model_is_waited_for():
    wanted = workspace(adapterSelector=FOLLOWING, runtime={"draftModel": {"fineTuneJob": "small"}})
    decision = decided(wanted, FIRST, SECOND)
    assert reason_of(decision.status) == "WaitingForJob"
    assert names(decision) == ["first", "second"]
    assert [each["kind"] for each in decision.apply] == ["ConfigMap"]


def test_servers_that_do_not_answer_are_asked_less_often():
    first = decided(workspace(), FIRST)
    there = running(first, "one")
    for answer, seconds in ((an_answer(first, first="Pending"), 1.0), (Answer(problem="GET x fails"), 15.0)):
        assert decided(workspace(), FIRST, **there, answers={"one": answer}).requeue_after == seconds


WITHHELD = {
    "no such job": ((), {"fineTuneJob": "x"}, "Pending: There is no FineTuneJob x"),
    "works": ((a_job("x"),), {"fineTuneJob": "x"}, "Pending: FineTuneJob x is Training"),
    "failed": ((a_job("x", failed="GateFailed"),), {"fineTuneJob": "x"}, "Failed: FineTuneJob x has failed (GateF"),
    "whole model": ((a_job("x", DIGEST["b"]),), {"fineTuneJob": "x"}, "Failed: The artifact of FineTuneJob x is a w"),
    "other base": (
        (a_job("x", DIGEST["b"], base=DIGEST["e"]),), {"fineTuneJob": "x"},
        "Failed: FineTuneJob x was trained on another base model (sha256:eeeeeeeeee) than the one that is served "
        "(sha256:ffffffffff)",
    ),
    "a volume": ((), {"uri": "pvc://theirs/a"}, "Failed: It is on the claim theirs, which the servers of this"),
    "a path": ((), {"uri": "./adapter"}, "Failed: It is at ./adapter, which no pod can reach"),
}  # fmt: skip


@pytest.mark.parametrize(("jobs", "source", "said"), WITHHELD.values(), ids=WITHHELD)
def test_what_cannot_be_served_is_not_sent_and_said(jobs, source, said):
    decision = decided(workspace(adapters=[{"name": "x-1", **source}]), FIRST, *jobs)
    assert names(decision) == ["first"]
    assert adapters_of(decision.status)["x-1"].startswith(said)
    assert conditions_of(decision.status)[2] == "False"


def test_a_job_with_the_workspaces_name_needs_another():
    job = a_job("faq", DIGEST["a"], base=BASE)
    decision = decided(a_workspace(model={"fineTuneJob": "faq"}), job)
    assert names(decision) == []
    said = adapters_of(decision.status)["faq"]
    assert said.startswith("Failed: faq is the name of the workspace")
    assert "another name in its job's annotation tunesmith.dev/adapter-name" in said
    job["metadata"]["annotations"] = {"tunesmith.dev/adapter-name": "tuned"}
    assert names(decided(a_workspace(model={"fineTuneJob": "faq"}), job)) == ["tuned"]


def test_there_are_at_most_256():
    jobs = [a_job(f"job-{number:03}", DIGEST["a"], base=BASE, labels={"base": "support"}) for number in range(256)]
    decision = decided(workspace(adapterSelector=FOLLOWING), FIRST, *jobs)
    assert len(names(decision)) == 256
    assert [name for name, text in adapters_of(decision.status).items() if "256 others" in text] == ["job-000"]


def test_the_jobs_do_not_replace_the_pods():
    wanted = workspace(adapterSelector=FOLLOWING, adapters=[{"name": "third", "fineTuneJob": "third"}])
    one, two = decided(wanted, FIRST), decided(wanted, FIRST, SECOND, a_job("third", DIGEST["c"], base=BASE))
    assert len(names(one)) + 2 == len(names(two))
    assert child(one, "Deployment") == child(two, "Deployment")
    emptied = decided(workspace(model={"uri": "s3://bucket/base"}, adapters=[]))
    filled = decided(workspace(model={"uri": "s3://bucket/base"}, adapters=[{"name": "a", "uri": "s3://b/a"}]))
    assert child(emptied, "Deployment") == child(filled, "Deployment")
    assert names(emptied) == []


def test_without_adapters_there_is_nothing_of_them():
    decision = decided(workspace(model={"uri": "s3://bucket/base"}))
    assert child(decision, "ConfigMap") is None
    assert "adapters" not in decision.status
    assert "--adapters" not in str(child(decision, "Deployment"))


def test_adapters_in_object_stores_are_fetched_beside_the_server():
    listed = [{"name": "a", "uri": "s3://b/a", "secretRef": {"name": "theirs"}}, {"name": "b", "uri": "s3://b/b"}]
    model = {"uri": "s3://bucket/base", "secretRef": {"name": "store"}}
    decision = decided(workspace(model=model, adapters=listed))
    pod = child(decision, "Deployment")["spec"]["template"]["spec"]
    fetch, follow = pod["initContainers"]
    assert fetch["envFrom"] == follow["envFrom"] == [{"secretRef": {"name": "store"}}]
    assert follow["restartPolicy"] == "Always"
    assert follow["args"] == [
        "follow", "/adapter-list/adapters.json", "/adapters", "--secrets", "/adapter-secrets",
    ]  # fmt: skip
    server = pod["containers"][0]
    assert server["args"][-2:] == ["--adapters", "/adapters/adapters.json"]
    mounts = {mount["mountPath"]: mount for container in (server, follow) for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in mounts.values()} <= set(volumes)
    assert volumes[mounts["/adapter-secrets/theirs"]["name"]]["secret"] == {"secretName": "theirs", "optional": True}
    revision = child(decision, "Deployment")["spec"]["template"]["metadata"]["labels"]["tunesmith.dev/revision"]
    items = [{"key": f"{revision}.json", "path": "adapters.json"}]
    assert volumes["adapter-list"]["configMap"] == {"name": "faq-adapters", "items": items}
    (entries,) = (content["adapters"] for content in list_of(decision).values())
    assert [item.get("secret") for item in entries] == ["theirs", None]


def test_adapters_on_the_bases_volume_are_read_there():
    decision = decided(workspace(adapters=[{"name": "b", "fineTuneJob": "b"}]), on_claim("first", DIGEST["a"]),
                       on_claim("b", DIGEST["b"]))  # fmt: skip
    pod = child(decision, "Deployment")["spec"]["template"]["spec"]
    assert "initContainers" not in pod, "nothing is fetched"
    (entries,) = (content["adapters"] for content in list_of(decision).values())
    assert [item["path"] for item in entries] == ["/claim/b/artifact", "/claim/first/artifact"]
    mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert "subPath" not in mounts["/claim"] and mounts["/claim"]["readOnly"]
    assert "subPath" not in mounts["/adapter-list"], "or the file would never change"
    assert pod["containers"][0]["args"][-1] == "/adapter-list/adapters.json"


def test_servers_that_read_a_volume_only_say_what_lets_them_read_a_store():
    base, far = on_claim("first", DIGEST["a"]), a_job("far", DIGEST["b"], base=BASE)
    decision = decided(workspace(adapters=[{"name": "far", "fineTuneJob": "far"}]), base, far)
    said = adapters_of(decision.status)["far"]
    remedy = {"name": "far", "uri": "s3://bucket/far/artifact"}
    assert said.startswith("Failed: It is in an object store") and "{name: far, uri: s3://bucket/far/artifact}" in said
    assert names(decided(workspace(adapters=[remedy]), base)) == ["far", "first"]
    other = on_claim("b", DIGEST["b"], claim="theirs")
    said = adapters_of(decided(workspace(adapters=[{"name": "b", "fineTuneJob": "b"}]), base, other).status)["b"]
    assert "storage: {claimName: shared}" in said


def test_kubelets_are_told_of_each_list_once_and_again_if_they_were_early():
    wanted = workspace(adapterSelector=FOLLOWING)
    first = decided(wanted, FIRST)
    version = an_answer(first).version
    there = running(first, "one", "two")
    told = decided(wanted, FIRST, **there, now=100).annotate
    assert told == tuple(Annotation(ObjectRef("Pod", name), SYNCED, f"{version}.100") for name in ("one", "two"))
    there = running(first, "one", annotations={SYNCED: f"{version}.100"})
    late = {"one": Answer("older")}
    for answers, now, value in (
        ({}, 200, "100"), (late, 101, "100"), (late, 103, "103"), ({"one": an_answer(first)}, 200, "100"),
    ):  # fmt: skip
        (note,) = decided(wanted, FIRST, **there, now=now, answers=answers).annotate
        assert note.value == f"{version}.{value}"
    (note,) = decided(wanted, FIRST, SECOND, **there, now=200).annotate
    assert not note.value.startswith(version)


def test_a_server_of_another_revision_keeps_its_list_and_is_not_told():
    first = decided(workspace(), FIRST)
    there = running(first, "old")
    moved = workspace(model={"fineTuneJob": "other"})
    decision = decided(moved, FIRST, a_job("other", DIGEST["b"], base=DIGEST["e"]), **there,
                       lists={"ffffffffff.json": "{}"})  # fmt: skip
    assert list_of(decision)["ffffffffff.json"] == {}
    assert [item["name"] for item in list_of(decision)["eeeeeeeeee.json"]["adapters"]] == ["other"]
    assert decision.annotate == ()


SAID = {
    "all": ({"first": "Loaded", "second": "Loaded"}, "True", "AdaptersLoaded", None),
    "one is being loaded": ({"first": "Loaded", "second": "Pending"}, "Unknown", "AdaptersPending", 1.0),
    "one is not known": ({"first": "Loaded"}, "Unknown", "AdaptersPending", 1.0),
    "one failed": ({"first": "Loaded", "second": "Failed: rank 99"}, "False", "AdapterFailed", 15.0),
    "one failed, one loads": ({"first": "Pending", "second": "Failed: rank 99"}, "False", "AdapterFailed", 1.0),
}


@pytest.mark.parametrize(("states", "value", "reason", "again"), SAID.values(), ids=SAID)
def test_the_status_says_what_the_servers_say_and_ready_does_not_depend_on_it(states, value, reason, again):
    wanted = workspace(adapterSelector=FOLLOWING)
    first = decided(wanted, FIRST, SECOND)
    there = running(first, "one")
    wanted["status"] = first.status
    decision = decided(wanted, FIRST, SECOND, **there, answers={"one": an_answer(first, **states)})
    assert (conditions_of(decision.status), reason_of(decision.status)) == (("True", "False", "False"), "Serving")
    found = condition({"status": decision.status}, "AdaptersReady")
    assert (found["status"], found["reason"]) == (value, reason)
    assert adapters_of(decision.status)["second"].startswith(states.get("second", "Pending"))
    assert decision.requeue_after == again
    about = [note.reason for note in decision.events if note.reason != "Serving"]
    assert about == ([reason] if value != "Unknown" else [])
    wanted["status"] = decision.status
    assert decided(wanted, FIRST, SECOND, **there, answers={"one": an_answer(first, **states)}).events == ()


def test_an_adapter_is_loaded_when_all_servers_have_it():
    first = decided(workspace(), FIRST)
    there = running(first, "one", "two")
    wanted = workspace(replicas=2)
    loaded = an_answer(first, first="Loaded")
    for other, said in (
        (an_answer(first, first="Pending"), "Pending: 1 of 2 servers have loaded it"),
        (Answer("older", loaded.states), "Pending: 1 of 2 servers have loaded it"),
        (an_answer(first, first="Failed: no room"), "Failed: no room (1 of 2 servers)"),
        (Answer(problem="GET x fails"), "Pending: It is not known whether it is loaded: GET x fails"),
        (loaded, "Loaded"),
    ):
        status = decided(wanted, FIRST, **there, answers={"one": loaded, "two": other}).status
        assert adapters_of(status) == {"first": said}


def test_what_was_said_of_adapters_goes_with_them():
    wanted = workspace(adapterSelector=FOLLOWING)
    status = decided(wanted, FIRST).status
    assert status["adapters"]
    for spec in ({"replicas": 0}, {"model": {"uri": "s3://bucket/base"}}):
        left = decided({**workspace(**spec), "status": status}).status
        assert "adapters" not in left
        assert condition({"status": left}, "AdaptersReady") == {}


def test_the_jobs_own_adapter_stays_when_the_job_is_deleted():
    wanted = workspace()
    wanted["status"] = decided(wanted, FIRST).status
    assert names(decided(wanted)) == ["first"]
