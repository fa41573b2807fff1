"""InferenceWorkspaces on a real API server and Deployment controller; what kubelets and trainers write is played."""

from collections.abc import Iterator

import pytest

from cluster.client import Cluster, condition
from support.docs import manifests
from support.kstatus import CURRENT, FAILED, IN_PROGRESS, kstatus
from support.workspace_operator import Around, workspace_operator

pytestmark = pytest.mark.integration

DIGEST = {letter: "sha256:" + letter * 64 for letter in "abc"}
A, B, C = ("a" * 10, "b" * 10, "c" * 10)
REFUSED = {
    "restartCount": 1,
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
    "lastState": {
        "terminated": {"exitCode": 2, "reason": "Error", "message": "tunesmith-serving: model.onnx is damaged\n"}
    },
}


@pytest.fixture
def around(cluster: Cluster, namespace: str) -> Iterator[Around]:
    with workspace_operator(cluster, namespace):
        yield Around(cluster, namespace)


def verdict(around: Around, name: str = "faq") -> str:
    return kstatus(around.cluster.get("InferenceWorkspace", name, around.namespace))


def serve_a(around: Around, **spec) -> None:
    """A workspace that serves job-a."""
    around.job("job-a", DIGEST["a"])
    around.workspace(**spec)
    around.make_ready(spec.get("replicas", 1), A)
    around.status("Serving", revision=A)


def test_it_waits_for_its_job_then_serves(around):
    around.workspace()
    around.status("WaitingForJob", "There is no FineTuneJob job-a", "Unknown")
    assert verdict(around) == IN_PROGRESS
    around.job("job-a")
    around.status("WaitingForJob", "FineTuneJob job-a is Pending")
    around.job("job-a", DIGEST["a"])
    around.status("RollingOut", "0 of 1 servers")
    (pod,) = around.pods(1, A)
    assert verdict(around) == IN_PROGRESS
    around.say(pod, ready=True)
    status = around.status("Serving", replicas=1, readyReplicas=1, revision=A)
    assert verdict(around) == CURRENT
    assert status["endpoint"] == f"http://faq.{around.namespace}.svc.cluster.local/v1"
    service = around.cluster.get("Service", "faq", around.namespace)
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()


def test_a_failed_job_is_told_and_its_successor_served(around):
    around.job("job-a", failed="GateFailed")
    around.workspace()
    around.status("JobFailed", "job-a has failed (GateFailed)", "False")
    assert verdict(around) == FAILED
    around.cluster.delete("FineTuneJob", "job-a", around.namespace)
    around.status("WaitingForJob", "There is no FineTuneJob")
    assert verdict(around) == IN_PROGRESS
    around.job("job-a", DIGEST["a"])
    around.status("RollingOut")


def test_a_rollout_is_surge_first_and_goes_one_by_one(around):
    serve_a(around, replicas=2)
    around.job("job-b", DIGEST["b"])
    around.workspace(replicas=2, model={"fineTuneJob": "job-b"})
    (new,) = around.pods(1, B)
    around.status("RollingOut", "0 of 2", readyReplicas=2, replicas=3, revision=A)
    assert len(around.pods(2, A)) == 2, "nothing is taken away before something new is ready"
    around.say(new, ready=True)
    around.make_ready(2, B)
    status = around.status("Serving", revision=B, previousRevision=A, replicas=2)
    assert [item["revision"] for item in status["history"]] == [A, B]
    assert around.cluster.find("PodDisruptionBudget", "faq", around.namespace) is not None


def test_a_blocked_rollout_leaves_the_old_revision_serving_and_is_left_by_a_change(around):
    serve_a(around)
    around.job("job-b", DIGEST["b"])
    around.workspace(model={"fineTuneJob": "job-b"})
    (new,) = around.pods(1, B)
    around.say(new, container=REFUSED)
    status = around.status("RolloutBlocked", "model.onnx is damaged", "False", revision=A, readyReplicas=1)
    assert verdict(around) == FAILED
    assert len(around.pods(1, A)) == 1
    # An event is written after the status that it tells of.
    around.cluster.wait_all(
        "Event",
        lambda events: any(event["reason"] == "RolloutBlocked" and event["type"] == "Warning" for event in events),
        around.namespace,
    )
    around.workspace(model={"fineTuneJob": "job-a"})
    status = around.status("Serving", revision=A, replicas=1)
    assert verdict(around) == CURRENT
    assert [item["revision"] for item in status["history"]] == [A]
    around.pods(0, B)


def test_a_blocked_rollout_goes_on_when_its_pods_do(around):
    serve_a(around)
    around.job("job-b", DIGEST["b"])
    around.workspace(model={"fineTuneJob": "job-b"})
    (new,) = around.pods(1, B)
    around.say(new, container=REFUSED)
    around.status("RolloutBlocked")
    around.say(new, ready=True)
    around.status("Serving", revision=B)
    around.pods(0, A)


def test_no_secret_no_room_and_a_deadline(around):
    around.job("job-a", DIGEST["a"])
    around.workspace(rollout={"progressDeadlineSeconds": 30}, auth={"apiKeySecretRef": {"name": "keys", "key": "k"}})
    (pod,) = around.pods(1, A)
    missing = {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "keys" not found'}}}
    around.say(pod, container=missing)
    around.status("SecretNotFound", "There is no Secret keys", "Unknown")
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    around.say(pod, phase="Pending", conditions=[unschedulable])
    around.status("Unschedulable", "0/1 nodes", "Unknown")
    assert verdict(around) == IN_PROGRESS
    around.status("Unschedulable", "0/1 nodes", "False")
    assert verdict(around) == FAILED
    around.say(pod, ready=True)
    around.status("Serving")


def test_a_server_on_a_gpu_asks_for_one_and_says_while_there_is_none(around):
    around.job("job-a", DIGEST["a"])
    around.workspace(runtime={"executionProvider": "cuda"}, resources={"memory": "1Gi"})
    around.status("InvalidArtifact", "holds only int4, which the execution provider cuda cannot compute", "False")
    around.workspace(model={"uri": "pvc://models/faq"}, runtime={"executionProvider": "cuda", "precision": "fp16"})
    (pod,) = around.cluster.wait_all("Pod", bool, around.namespace, "tunesmith.dev/owner-name=faq")
    (server,) = pod["spec"]["containers"]
    assert server["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert server["resources"]["requests"]["nvidia.com/gpu"] == "1", "the API server adds it"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["spec"]["tolerations"]
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    around.say(pod, phase="Pending", conditions=[unschedulable])
    around.status("Unschedulable", "A server needs a free nvidia.com/gpu", "Unknown")
    around.say(pod, ready=True)
    around.status("Serving")


def test_a_selector_follows_the_newest_job(around):
    model = {"fineTuneJobSelector": {"matchLabels": {"app": "faq"}}}
    around.workspace(model=model)
    around.status("WaitingForJob", "No FineTuneJob of this namespace has the labels app=faq")
    around.job("job-a", DIGEST["a"], labels={"app": "faq"})
    around.make_ready(1, A)
    around.status("Serving", revision=A)
    around.job("other", DIGEST["c"])
    around.job("bad", failed="GateFailed", labels={"app": "faq"})
    around.job("job-b", DIGEST["b"], labels={"app": "faq"})
    around.make_ready(1, B)
    around.status("Serving", revision=B, previousRevision=A)
    # Deleted after some time, as ttlSecondsAfterFinished does: the older one does not come back.
    around.cluster.delete("FineTuneJob", "job-b", around.namespace)
    around.cluster.wait_gone("FineTuneJob", "job-b", around.namespace)
    around.job("late", labels={"app": "faq"})
    around.workspace(model=model, replicas=2)
    around.make_ready(2, B)
    around.status("Serving", revision=B, replicas=2)


def test_scaling_by_the_scale_subresource(around):
    serve_a(around)
    around.cluster.run("scale", "inferenceworkspace/faq", "--replicas=2", "-n", around.namespace)
    around.make_ready(2, A)
    around.status("Serving", replicas=2, readyReplicas=2)
    scale = around.cluster.http.request(
        "GET", around.cluster.http.resource("InferenceWorkspace").path(around.namespace, "faq") + "/scale"
    )
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (2, 2)
    found = around.cluster.list("Pod", around.namespace, labels=scale["status"]["selector"])
    assert len(found) == 2, "an autoscaler finds its pods by this selector"
    around.cluster.run("scale", "inferenceworkspace/faq", "--replicas=0", "-n", around.namespace)
    around.status("ScaledToZero", replicas=0, readyReplicas=0)
    around.pods(0, A)
    assert verdict(around) == CURRENT
    around.cluster.run("scale", "inferenceworkspace/faq", "--replicas=1", "-n", around.namespace)
    around.make_ready(1, A)
    around.status("Serving", replicas=1)


def test_an_autoscaler_finds_the_scale(around):
    """The manifest of docs/workspaces.md; there are no metrics here, so it knows the scale and changes nothing."""
    serve_a(around)
    (manifest,) = (one for one in manifests("workspaces.md") if one["kind"] == "HorizontalPodAutoscaler")
    manifest["spec"]["scaleTargetRef"]["name"] = "faq"
    around.cluster.apply([manifest], around.namespace)
    scaler = around.cluster.wait(
        "HorizontalPodAutoscaler",
        manifest["metadata"]["name"],
        lambda found: found is not None and condition(found, "AbleToScale").get("reason") == "SucceededGetScale",
        around.namespace,
    )
    assert condition(scaler, "ScalingActive")["reason"] == "FailedGetResourceMetric"
    assert scaler["status"]["currentReplicas"] == 1


def test_a_restart_by_kubectl_replaces_the_servers(around):
    """As after a change of the API key: the operator leaves the annotation that kubectl sets."""
    serve_a(around)
    (before,) = around.pods(1, A)
    around.cluster.run("rollout", "restart", "deployment/faq", "-n", around.namespace)
    around.cluster.wait_all("Pod", lambda pods: len(pods) == 2, around.namespace, "tunesmith.dev/owner-name=faq")
    around.make_ready(1, A)
    (after,) = around.pods(1, A)
    assert after["metadata"]["name"] != before["metadata"]["name"]
    around.status("Serving", revision=A, readyReplicas=1)


def test_another_ones_deployment_is_left_alone(around):
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "theirs"}},
        "template": {"metadata": {"labels": {"app": "theirs"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}},
    }
    metadata = {"name": "faq", "namespace": around.namespace}
    around.cluster.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
    around.job("job-a", DIGEST["a"])
    around.workspace()
    around.status("NameTaken", "Deployment faq exists", "Unknown")
    there = around.cluster.get("Deployment", "faq", around.namespace)
    assert there["spec"]["template"]["metadata"]["labels"] == {"app": "theirs"}
    around.cluster.delete("Deployment", "faq", around.namespace)
    around.make_ready(1, A)
    around.status("Serving", revision=A)


def test_what_is_made_goes_with_it_and_what_is_undone_comes_back(around):
    serve_a(around, replicas=2)
    around.cluster.delete("Service", "faq", around.namespace)
    around.cluster.wait("Service", "faq", lambda obj: True, around.namespace)
    around.cluster.run("scale", "deployment/faq", "--replicas=5", "-n", around.namespace)
    around.cluster.wait("Deployment", "faq", lambda obj: obj["spec"]["replicas"] == 2, around.namespace)
    around.cluster.delete("InferenceWorkspace", "faq", around.namespace)
    for kind in ("Deployment", "Service", "PodDisruptionBudget", "Pod"):
        around.cluster.wait_all(kind, lambda objects: not objects, around.namespace)
    assert around.cluster.find("FineTuneJob", "job-a", around.namespace) is not None


def test_a_quiet_workspace_is_not_written_again(around):
    serve_a(
        around, replicas=2, podTemplate={"env": [{"name": "A", "value": "b"}]}, resources={"cpu": 1, "memory": "1Gi"}
    )
    names = [("InferenceWorkspace", "faq"), ("Deployment", "faq"), ("Service", "faq"), ("PodDisruptionBudget", "faq")]

    def versions() -> list[str]:
        return [around.cluster.get(*name, around.namespace)["metadata"]["resourceVersion"] for name in names]

    before = versions()
    # Something that wakes it and changes nothing for it.
    around.cluster.patch("FineTuneJob", "job-a", {"metadata": {"labels": {"x": "y"}}}, around.namespace)
    around.workspace("second", model={"fineTuneJob": "job-none"})
    around.status("WaitingForJob", name="second")
    assert versions() == before
    assert condition(around.cluster.get("Deployment", "faq", around.namespace), "Available")["status"] == "True"
