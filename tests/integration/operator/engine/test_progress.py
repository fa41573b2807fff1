"""Progress reports over HTTPS, with tokens as the API server issues them to pods."""

import json
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import pytest

from cluster.client import Cluster, condition
from support.engine_process import free_port, pod_spec
from support.manifests import job
from tunesmith_operator.engine.labels import OWNER_KIND, OWNER_NAME, OWNER_UID, STAGE

pytestmark = pytest.mark.integration

AUDIENCE = "tunesmith.dev"
CONFIG_MAP = "tunesmith-progress-ca"
PATH = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/{}/trainjobs/{}/status"


@dataclass
class World:
    """A cluster with a running replica that receives progress."""

    cluster: Cluster
    namespace: str
    port: int

    def job(self, name: str) -> dict[str, Any]:
        """Make a job and wait until the operator knows it."""
        self.cluster.apply(job(name), self.namespace)
        return self.cluster.wait("FineTuneJob", name, lambda obj: obj.get("status", {}).get("phase"), self.namespace)

    def pod(self, owner: dict[str, Any], name: str = "pod", **labels: str) -> dict[str, Any]:
        """Make a pod of a job's train stage."""
        names = {OWNER_UID: owner["metadata"]["uid"], OWNER_KIND: "FineTuneJob", OWNER_NAME: owner["metadata"]["name"]}
        metadata = {"name": name, "labels": {**names, STAGE: "train", **labels}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec()}
        return self.cluster.create(pod, self.namespace)

    def token(self, pod: dict[str, Any] | None, audience: str = AUDIENCE) -> str:
        """Return a token as the kubelet asks for: for the default account, bound to a pod."""
        spec: dict[str, Any] = {"audiences": [audience], "expirationSeconds": 3600}
        if pod is not None:
            metadata = pod["metadata"]
            spec["boundObjectRef"] = {
                "apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"],
            }  # fmt: skip
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/default/token"
        return str(self.cluster.http.request("POST", path, body)["status"]["token"])

    def post(self, token: str, name: str, body: Any = None, namespace: str = "") -> tuple[int, dict[str, Any]]:
        """Report, and return the code and the answer; the server's certificate is checked by the ConfigMap's."""
        authority = self.cluster.wait("ConfigMap", CONFIG_MAP, lambda obj: True, self.namespace)["data"]["ca.crt"]
        data = body if isinstance(body, bytes) else json.dumps(body or report(step=1)).encode()
        url = f"https://127.0.0.1:{self.port}" + PATH.format(namespace or self.namespace, name)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(url, data=data, headers=headers, method="POST")
        context = ssl.create_default_context(cadata=authority)
        deadline = time.monotonic() + 300
        while True:
            try:
                with urllib.request.urlopen(request, timeout=300, context=context) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                return error.code, json.loads(error.read())
            except urllib.error.URLError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)  # The port opens a moment after the ConfigMap is there.

    def post_until(self, code: int, token: str, name: str, **rest: Any) -> None:
        """Report until the answer has a code: the pod's event may still be on its way to the operator."""
        deadline = time.monotonic() + 300
        while (answer := self.post(token, name, **rest))[0] != code:
            assert time.monotonic() < deadline, answer
            time.sleep(0.05)


def report(**metrics: Any) -> dict[str, Any]:
    return {"trainerStatus": {"metrics": [{"name": name, "value": str(value)} for name, value in metrics.items()]}}


@pytest.fixture
def world(cluster: Cluster, namespace: str, start: Any) -> World:
    port = free_port()
    start(progress_port=port, progress_url=f"https://127.0.0.1:{port}")
    return World(cluster, namespace, port)


def test_a_pods_reports_become_the_jobs_progress_until_it_has_ended(world: World) -> None:
    owner = world.job("a")
    token = world.token(world.pod(owner))
    world.post_until(200, token, "a", body=report(step=1, totalSteps=10, loss=3.5))

    def reports_while_working(obj: dict[str, Any]) -> bool:
        # Two writers: the report may arrive while the reconciler has only accepted the job.
        return "progress" in obj["status"] and condition(obj, "Ready")["reason"] == "Working"

    first = world.cluster.wait("FineTuneJob", "a", reports_while_working, world.namespace)
    assert first["status"]["progress"] == {"stage": "train", "step": 1, "totalSteps": 10, "loss": 3.5}

    for step in range(2, 8):
        assert world.post(token, "a", report(step=step))[0] == 200
    last = world.cluster.wait("FineTuneJob", "a", lambda obj: obj["status"]["progress"]["step"] == 7, world.namespace)
    assert last["status"]["progress"] == {"stage": "train", "step": 7, "totalSteps": 10, "loss": 3.5}
    managers = {entry["manager"]: entry for entry in last["metadata"]["managedFields"]}
    assert set(managers["tunesmith-progress"]["fieldsV1"]["f:status"]) == {"f:progress"}
    assert "f:progress" not in managers["tunesmith-status"]["fieldsV1"]["f:status"]

    conditions = [
        {**entry, "status": "True"} if entry["type"] == "Stalled" else entry for entry in last["status"]["conditions"]
    ]
    # The reconciler of this test undoes it; its own next look does not matter here, only what the report comes to.
    answer: dict[str, Any] = {}
    deadline = time.monotonic() + 300
    while "ignored" not in answer.get("message", ""):
        assert time.monotonic() < deadline
        world.cluster.patch("FineTuneJob", "a", {"status": {"conditions": conditions}}, world.namespace, "status")
        answer = world.post(token, "a", report(step=3))[1]


def test_who_is_not_a_pod_of_the_job_is_refused(world: World) -> None:
    owner, other = world.job("a"), world.job("b")
    pod, of_other = world.pod(owner), world.pod(other, "pod-of-b")
    good = world.token(pod)
    world.post_until(200, good, "a")

    head, claims, signature = good.split(".")
    assert world.post(f"{head}.{claims}.{signature[:-4]}AAAA", "a")[0] == 401
    assert world.post("no-token", "a")[0] == 401
    assert world.post("", "a")[0] == 401
    assert world.post(world.token(pod, "https://kubernetes.default.svc"), "a")[0] == 401
    assert world.post(world.token(None), "a")[0] == 401  # The account's, of no pod.
    world.post_until(200, world.token(of_other), "b")
    assert world.post(world.token(of_other), "a")[0] == 403
    assert world.post(good, "b")[0] == 403
    assert world.post(good, "not-there")[0] == 403
    assert world.post(good, "a", namespace="default")[0] == 403

    impostor = world.pod(owner, "impostor", **{OWNER_UID: other["metadata"]["uid"]})
    assert world.post(world.token(impostor), "a")[0] == 403
    progress = [world.cluster.get("FineTuneJob", name, world.namespace)["status"].get("progress") for name in "ab"]
    assert all(found in (None, {"stage": "train", "step": 1}) for found in progress)


def test_what_is_no_report_is_refused_in_words(world: World) -> None:
    token = world.token(world.pod(world.job("a")))
    world.post_until(200, token, "a")
    assert world.post(token, "a", b"not json")[0] == 400
    code, answer = world.post(token, "a", {"trainerStatus": {"metrics": [{"value": "1"}]}})
    assert (code, "metrics[0]" in answer["message"]) == (400, True)
    assert world.post(token, "a", b"[" * 200_000)[0] == 413


def test_a_deleted_pods_token_is_good_no_more(world: World) -> None:
    pod = world.pod(world.job("a"))
    token = world.token(pod)
    world.post_until(200, token, "a")
    world.cluster.delete("Pod", "pod", world.namespace, grace=0)
    world.post_until(403, token, "a")


def test_replicas_share_one_certificate_and_both_receive(world: World, start: Any) -> None:
    owner = world.job("a")
    token = world.token(world.pod(owner))
    world.post_until(200, token, "a")
    secret = world.cluster.get("Secret", "tunesmith-progress", world.namespace)
    port = free_port()
    start("second", progress_port=port, progress_url=f"https://127.0.0.1:{port}")
    second = World(world.cluster, world.namespace, port)
    second.post_until(200, token, "a", body=report(step=5))
    world.cluster.wait("FineTuneJob", "a", lambda obj: obj["status"]["progress"]["step"] == 5, world.namespace)
    assert world.cluster.get("Secret", "tunesmith-progress", world.namespace)["data"] == secret["data"]


def test_the_config_map_is_there_again_after_it_was_changed(cluster: Cluster, namespace: str, start: Any) -> None:
    port = free_port()
    start(progress_port=port, progress_url=f"https://127.0.0.1:{port}", resync_seconds=1)
    World(cluster, namespace, port).job("a")
    data = cluster.wait("ConfigMap", CONFIG_MAP, lambda obj: True, namespace)["data"]
    cluster.patch("ConfigMap", CONFIG_MAP, {"data": {"ca.crt": "theirs"}}, namespace)
    cluster.wait("ConfigMap", CONFIG_MAP, lambda obj: obj["data"] == data, namespace)
