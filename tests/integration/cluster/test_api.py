"""The control plane as tests get it: real rules, watches, and controllers."""

import threading

import pytest
import urllib3

from cluster.client import Cluster
from cluster.requests import ApiError

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

JOB = {
    "apiVersion": "tunesmith.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "a"},
    "spec": {
        "model": {"scratch": {"architecture": "llama"}},
        "method": "full",
        "dataset": {"sources": [{"configMapKeyRef": {"name": "data", "key": "train.jsonl"}}]},
    },
}


def test_our_kinds_are_there_and_bad_objects_are_refused(cluster: Cluster, namespace: str) -> None:
    (made,) = cluster.apply(JOB, namespace)
    assert made["status"]["observedGeneration"] == -1
    bad = {**JOB, "metadata": {"name": "b"}, "spec": {**JOB["spec"], "method": "magic"}}
    with pytest.raises(ApiError, match="magic") as error:
        cluster.apply(bad, namespace)
    assert error.value.status == 422


def test_pods_that_break_the_restricted_level_are_refused(cluster: Cluster, namespace: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "a", "image": "x"}]},
    }
    with pytest.raises(ApiError, match="violates PodSecurity") as error:
        cluster.create(pod, namespace)
    assert error.value.status == 403


def test_jobs_get_pods_and_owned_objects_go_with_their_owner(cluster: Cluster, namespace: str) -> None:
    secure = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    pod = {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "image": "x", "securityContext": secure}],
    }
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": {"template": {"spec": pod}}}
    cluster.create(job, namespace)
    (made,) = cluster.wait_all("Pod", lambda pods: len(pods) == 1, namespace, labels="job-name=a")
    assert made["metadata"]["ownerReferences"][0]["kind"] == "Job"
    cluster.delete("Job", "a", namespace)
    cluster.wait_gone("Pod", made["metadata"]["name"], namespace)


def test_rights_are_checked(cluster: Cluster, namespace: str) -> None:
    account = f"system:serviceaccount:{namespace}:default"
    assert "no" in cluster.run("auth", "can-i", "list", "pods", f"--as={account}", "-n", namespace, check=False)


def test_waiting_in_vain_says_what_was_seen_last(cluster: Cluster, namespace: str) -> None:
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}, namespace)
    with pytest.raises(AssertionError, match='Waited 1 s for ConfigMap metadata.name=a(.|\n)*"name": "a"'):
        cluster.wait("ConfigMap", "a", lambda obj: obj["data"]["k"] == "w", namespace, timeout=1)


def test_the_api_server_goes_and_comes_back_while_somebody_waits(private_api_cluster: Cluster) -> None:
    cluster = private_api_cluster
    before = cluster.get("Namespace", "default")
    seen: list[dict] = []
    cluster.stop_api_server()
    with pytest.raises(urllib3.exceptions.HTTPError):
        cluster.get("Namespace", "default")
    waits = threading.Thread(target=lambda: seen.append(cluster.wait("Namespace", "default", lambda obj: True)))
    waits.start()
    cluster.start_api_server()
    waits.join()
    assert seen[0]["metadata"]["uid"] == before["metadata"]["uid"]
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}})
    cluster.wait("ServiceAccount", "default", lambda account: True, "new")  # by the controllers, which outlived it
