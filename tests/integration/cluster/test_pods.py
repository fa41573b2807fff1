"""A node that runs pods: names, logs, exec, volumes, limits, evictions, GPUs, images."""

import tarfile
import uuid
from pathlib import Path

import pytest

from cluster import binaries, images
from cluster.client import Cluster, condition
from cluster.requests import Object
from support.cluster_facts import GPU, add_node, set_gpus
from support.probe_pods import claim, pod

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def ended(obj: Object) -> bool:
    return obj["status"]["phase"] in ("Succeeded", "Failed")


def running(obj: Object) -> bool:
    return condition(obj, "Ready").get("status") == "True"


def test_a_services_name_leads_to_its_pods_and_logs_and_exec_work(cluster: Cluster, namespace: str) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    url = f"http://web.{namespace}.svc.cluster.local"
    cluster.apply([service, pod("web", "serve", ":8080", "hello"), pod("asks", "get", url)], namespace)
    assert cluster.wait("Pod", "asks", ended, namespace)["status"]["phase"] == "Succeeded"
    assert cluster.run("logs", "asks", "-n", namespace) == "hello\n"
    assert cluster.run("exec", "web", "-n", namespace, "--", "/probe", "get", url) == "hello\n"


def test_claims_get_volumes_that_restricted_pods_share_and_that_go_with_them(cluster: Cluster, namespace: str) -> None:
    cluster.apply([claim("one"), claim("many", "ReadWriteMany", "tunesmith-shared")], namespace)
    volumes = {"/one": "one", "/many": "many"}
    cluster.create(pod("writes", "write", "/one/folder/file", "text", volumes=volumes), namespace)
    assert cluster.wait("Pod", "writes", ended, namespace)["status"]["phase"] == "Succeeded"
    cluster.create(pod("reads", "read", "/one/folder/file", volumes=volumes), namespace)
    assert cluster.wait("Pod", "reads", ended, namespace)["status"]["phase"] == "Succeeded"
    assert cluster.run("logs", "reads", "-n", namespace) == "text"
    volume = cluster.get("PersistentVolumeClaim", "one", namespace)["spec"]["volumeName"]
    folder = Path(cluster.get("PersistentVolume", volume)["spec"]["hostPath"]["path"])
    assert (folder / "folder/file").read_text() == "text"
    for name in ("writes", "reads"):
        cluster.delete("Pod", name, namespace, grace=0)
    cluster.delete("PersistentVolumeClaim", "one", namespace)
    cluster.wait_gone("PersistentVolume", volume)
    assert not folder.exists()


def test_a_pod_over_its_memory_is_killed_and_says_so(cluster: Cluster, namespace: str) -> None:
    cluster.create(pod("eats", "eat", "200", resources={"limits": {"memory": "64Mi"}}), namespace)
    (status,) = cluster.wait("Pod", "eats", ended, namespace)["status"]["containerStatuses"]
    assert (status["state"]["terminated"]["reason"], status["state"]["terminated"]["exitCode"]) == ("OOMKilled", 137)


def test_a_pod_is_evicted(cluster: Cluster, namespace: str) -> None:
    cluster.create(pod("web", "serve", ":8080", "hello"), namespace)
    cluster.wait("Pod", "web", running, namespace)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web"}}
    cluster.http.request("POST", f"/api/v1/namespaces/{namespace}/pods/web/eviction", eviction)
    seen = cluster.wait("Pod", "web", lambda obj: "deletionTimestamp" in obj["metadata"], namespace)
    assert condition(seen, "DisruptionTarget")["reason"] == "EvictionByEvictionAPI"
    cluster.wait_gone("Pod", "web", namespace)


def test_gpus_and_nodes_are_what_tests_say(cluster: Cluster, namespace: str) -> None:
    name = f"fake-{uuid.uuid4().hex[:8]}"
    taint = {"key": "sku", "value": "gpu", "effect": "NoSchedule"}
    add_node(cluster, name, {"test": name}, [taint], {GPU: "4"})
    try:
        asks = pod("asks", "pause", resources={"limits": {GPU: "2"}})
        asks["spec"]["nodeSelector"] = {"test": name}
        cluster.create(asks, namespace)
        seen = cluster.wait("Pod", "asks", lambda obj: condition(obj, "PodScheduled"), namespace)
        assert "untolerated taint" in condition(seen, "PodScheduled")["message"]
        asks["metadata"]["name"] = "fits"
        asks["spec"]["tolerations"] = [{"key": "sku", "operator": "Exists"}]
        cluster.create(asks, namespace)
        cluster.wait("Pod", "fits", lambda obj: obj["spec"].get("nodeName") == name, namespace)
    finally:
        cluster.delete("Node", name)


def test_the_node_itself_gets_gpus(cluster: Cluster, namespace: str) -> None:
    set_gpus(cluster, 2)
    cluster.create(pod("web", "serve", ":8080", "hello", resources={"limits": {GPU: "1"}}), namespace)
    cluster.wait("Pod", "web", running, namespace)


def test_an_archive_becomes_an_image(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    reference = f"docker.io/library/made-{uuid.uuid4().hex[:8]}:1"
    images.write_archive(tmp_path / "image.tar", binaries.probe(), reference)
    assert tarfile.is_tarfile(tmp_path / "image.tar")
    assert not images.has("full", reference)
    cluster.load_image(tmp_path / "image.tar")
    assert images.has("full", reference)
    made = pod("made", "exit", "0")
    made["spec"]["containers"][0]["image"] = reference.removeprefix("docker.io/library/")
    cluster.create(made, namespace)
    assert cluster.wait("Pod", "made", ended, namespace)["status"]["phase"] == "Succeeded"
    images.remove("full", reference)
