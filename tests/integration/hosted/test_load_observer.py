"""What `make hosted-load` sees of jobs behind a real API server, and the stand-in that lets them run there."""

from cluster.client import Cluster
from cluster.requests import Object
from cluster.state import State
from support.etcd_history import history_of, revision_of
from support.job_history import made_twice, most_at_once
from support.manifests import job
from support.standin_operator import StandinOperator


def etcd_of(cluster: Cluster) -> str:
    state = State.load(str(cluster.name))
    assert state is not None
    return f"http://127.0.0.1:{state.port('etcd')}"


def has_ended(found: Object) -> bool:
    return found.get("status", {}).get("phase") == "Succeeded"


def is_suspended(found: Object) -> bool:
    return any(item["reason"] == "Suspended" for item in found.get("status", {}).get("conditions", []))


def test_all_that_becomes_of_jobs_is_seen(cluster: Cluster, namespace: str) -> None:
    etcd = etcd_of(cluster)
    since = revision_of(etcd) + 1
    for name in ("a", "b"):
        cluster.create(job(name), namespace)
    cluster.patch("FineTuneJob", "a", {"spec": {"suspend": True}}, namespace)
    with StandinOperator(cluster, namespace, (0.5, 0.6)).running():
        cluster.wait("FineTuneJob", "b", has_ended, namespace)
        cluster.wait("FineTuneJob", "a", is_suspended, namespace)
        cluster.patch("FineTuneJob", "a", {"spec": {"suspend": False}}, namespace)
        cluster.wait("FineTuneJob", "a", has_ended, namespace)
    cluster.delete("FineTuneJob", "a", namespace)
    cluster.create(job("a"), namespace)
    history = [entry for entry in history_of(cluster, etcd, since) if entry.namespace == namespace]
    assert [entry.act for entry in history if entry.name == "a"] == [
        "made", "suspended", "resumed", "ended", "deleted", "made",
    ]  # fmt: skip
    assert [entry.act for entry in history if entry.name == "b"] == ["made", "ended"]
    assert [entry.at for entry in history] == sorted({entry.at for entry in history})
    assert made_twice(history) == ["a"]
    assert most_at_once(history) == {namespace: 2}
