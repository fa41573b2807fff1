"""The engine over a real API server: children are made, kept, and go; nobody else's object is touched."""

from typing import Any

import pytest

from cluster.client import Cluster, condition
from support.engine_process import EngineProcess
from support.manifests import job, workspace
from tunesmith_operator.engine.labels import OWNER_NAME, OWNER_UID

pytestmark = pytest.mark.integration


def has_phase(obj: dict[str, Any]) -> bool:
    return bool(obj.get("status", {}).get("phase"))


def says(reason: str) -> Any:
    return lambda obj: condition(obj, "Ready").get("reason") == reason


def until_quiet(process: EngineProcess, cluster: Cluster, namespace: str, name: str) -> None:
    """Wait until a marker on an object has gone through the operator, so that all before it has too."""
    cluster.wait("FineTuneJob", name, says("Working"), namespace)


def test_children_are_made_and_repaired_and_go_with_their_owner(cluster: Cluster, namespace: str, start: Any) -> None:
    start()
    made = cluster.apply(job("a"), namespace)[0]
    found = cluster.wait("FineTuneJob", "a", says("Working"), namespace)
    assert found["status"]["observedGeneration"] == made["metadata"]["generation"]
    assert "finalizers" not in found["metadata"]
    assert not [name for name in found["metadata"].get("annotations", {}) if "kopf" in name]
    uid = found["metadata"]["uid"]
    child = cluster.get("Job", "a-prepare-1", namespace)
    service = cluster.get("Service", "a", namespace)
    for obj in (child, service):
        assert obj["metadata"]["labels"][OWNER_UID] == uid
        assert obj["metadata"]["ownerReferences"][0]["uid"] == uid

    changed = {
        "spec": {"ports": [{"name": "http", "port": 81}]},
        "metadata": {"labels": {OWNER_NAME: None, OWNER_UID: None}},
    }
    cluster.patch("Service", "a", changed, namespace)
    cluster.wait("Service", "a", lambda obj: [port["port"] for port in obj["spec"]["ports"]] == [80], namespace)
    cluster.wait("Service", "a", lambda obj: obj["metadata"]["labels"].get(OWNER_NAME) == "a", namespace)

    cluster.patch("Job", "a-prepare-1", {"metadata": {"labels": {OWNER_UID: None}}}, namespace)
    cluster.wait("Job", "a-prepare-1", lambda obj: obj["metadata"]["labels"].get(OWNER_UID) == uid, namespace)
    cluster.delete("Job", "a-prepare-1", namespace)
    first = child["metadata"]["uid"]
    cluster.wait("Job", "a-prepare-1", lambda obj: obj["metadata"]["uid"] != first, namespace)

    # What others write in a Job stays theirs.
    cluster.patch("Job", "a-prepare-1", {"metadata": {"annotations": {"theirs": "1"}}}, namespace)
    cluster.delete("Service", "a", namespace)
    cluster.wait("Service", "a", lambda obj: "deletionTimestamp" not in obj["metadata"], namespace)
    assert cluster.get("Job", "a-prepare-1", namespace)["metadata"]["annotations"]["theirs"] == "1"

    cluster.delete("FineTuneJob", "a", namespace)
    for kind in ("Job", "Service"):
        cluster.wait_all(kind, lambda objects: not objects, namespace)


def test_events_are_told_once(cluster: Cluster, namespace: str, start: Any) -> None:
    start()
    cluster.apply(job("a"), namespace)
    cluster.wait("FineTuneJob", "a", says("Working"), namespace)
    # An event is written after the status that it tells of.
    found = cluster.wait_all("Event", lambda all_: any(one["reason"] == "Accepted" for one in all_), namespace)
    events = [event for event in found if event["reason"] == "Accepted"]
    assert len(events) == 1
    regarding = events[0].get("regarding") or events[0]["involvedObject"]
    assert (regarding["kind"], regarding["name"]) == ("FineTuneJob", "a")


def test_an_object_of_somebody_else_is_left_and_told_of(cluster: Cluster, namespace: str, start: Any) -> None:
    start()
    theirs = {"clusterIP": "None", "ports": [{"name": "theirs", "port": 99}]}
    cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": theirs}, namespace)
    cluster.apply(job("a"), namespace)
    found = cluster.wait("FineTuneJob", "a", says("ChildRefused"), namespace)
    assert "was not made for this object" in condition(found, "Ready")["message"]
    service = cluster.get("Service", "a", namespace)
    assert [port["port"] for port in service["spec"]["ports"]] == [99]
    assert OWNER_UID not in service["metadata"].get("labels", {})
    cluster.delete("Service", "a", namespace)
    cluster.wait("FineTuneJob", "a", says("Working"), namespace)


def test_a_refusal_by_quota_is_told_and_ends_by_itself(cluster: Cluster, namespace: str, start: Any) -> None:
    start()
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}}
    cluster.apply({**quota, "spec": {"hard": {"count/jobs.batch": "0"}}}, namespace)
    cluster.wait("ResourceQuota", "q", lambda obj: obj.get("status", {}).get("hard"), namespace)
    cluster.apply(job("a"), namespace)
    found = cluster.wait("FineTuneJob", "a", says("ChildRefused"), namespace)
    assert "exceeded quota" in condition(found, "Ready")["message"]
    cluster.delete("ResourceQuota", "q", namespace)
    cluster.wait("FineTuneJob", "a", says("Working"), namespace)


def test_a_workspace_hears_of_the_job_that_it_follows(cluster: Cluster, namespace: str, start: Any) -> None:
    start()
    cluster.apply(workspace("a"), namespace)
    cluster.wait(
        "InferenceWorkspace", "a", lambda obj: "no job" in condition(obj, "Ready").get("message", ""), namespace
    )
    cluster.apply(job("a"), namespace)
    cluster.wait(
        "InferenceWorkspace", "a", lambda obj: condition(obj, "Ready").get("message") == "the job is Pending", namespace
    )
    cluster.delete("FineTuneJob", "a", namespace)
    cluster.wait(
        "InferenceWorkspace", "a", lambda obj: "no job" in condition(obj, "Ready").get("message", ""), namespace
    )


def test_nothing_is_asked_of_the_api_server_when_all_is_done(cluster: Cluster, namespace: str, start: Any) -> None:
    process = start(leader_election=False)
    names = [f"job-{number}" for number in range(20)]
    cluster.apply([job(name) for name in names], namespace)
    cluster.wait_all(
        "FineTuneJob", lambda objects: len(objects) == 20 and all(map(says("Working"), objects)), namespace
    )
    series = {
        "finetunejobs/status": ("patch", "200", 2 * 20),
        "jobs": ("post", "201", 20),
        "services": ("post", "201", 20),
        "events": ("post", "201", 20),
    }
    cluster.patch("Service", names[0], {"metadata": {"annotations": {"marker": "1"}}}, namespace)
    for resource, (verb, code, count) in series.items():
        name = f'tunesmith_api_requests_total{{code="{code}",resource="{resource}",verb="{verb}"}}'
        assert process.metric(name) == count, resource
    assert process.metric('tunesmith_objects{kind="FineTuneJob",phase="Pending"}') == 20
    assert process.metric("tunesmith_first_job_seconds_count") == 20
    assert process.metric("tunesmith_queue_depth") == 0
    assert process.metric('tunesmith_reconciles_total{kind="FineTuneJob",result="error"}') == 0
