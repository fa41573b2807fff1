"""FineTuneJobs on a real control plane: the API server, the Job controller and the operator are real.

The kubelet is played: what it would say of a pod is written into the pod's status.
"""

import json
from collections.abc import Callable, Iterator

import pytest

from cluster.client import Cluster, condition
from cluster.requests import ApiError
from support.fake_kubelet import RESULTS, finished, outcome, running
from support.manifests import config_map, job
from support.operator import ended
from support.operator_process import operator
from support.status_recorder import StatusRecorder

pytestmark = pytest.mark.integration

Object = dict


class Stages:
    """The stages of jobs in one namespace, as a kubelet sees them."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def create(self, name: str = "tiny", **spec) -> None:
        self.cluster.create(config_map(name), self.namespace)
        self.cluster.create(job(name, **spec), self.namespace)

    def pods(self, job_name: str, count: int = 1, ended: bool = False) -> list[Object]:
        """Wait for so many pods of a Job that have not ended (or have), and return them."""
        phases = ("Succeeded", "Failed") if ended else ("Pending", "Running")

        def chosen(pods: list[Object]) -> list[Object]:
            return [p for p in pods if p["status"]["phase"] in phases and "deletionTimestamp" not in p["metadata"]]

        labels = f"batch.kubernetes.io/job-name={job_name}"
        found = self.cluster.wait_all("Pod", lambda pods: len(chosen(pods)) >= count, self.namespace, labels=labels)
        return chosen(found)

    def pod(self, job_name: str) -> Object:
        return self.pods(job_name)[0]

    def say(self, pod: Object, status: Object) -> None:
        """Write what a kubelet would write into a pod."""
        self.cluster.patch("Pod", pod["metadata"]["name"], {"status": status}, self.namespace, "status")

    def succeed(self, stage: str, name: str = "tiny", attempt: int = 1, count: int = 1) -> None:
        for pod in self.pods(f"{name}-{stage}-{attempt}", count):
            self.say(pod, running(pod))
            self.say(pod, finished(pod, message=outcome(stage)))

    def fail(self, job_name: str, code: int, words: Object | None = None, reason: str = "") -> None:
        pod = self.pod(job_name)
        self.say(pod, running(pod))
        self.say(pod, finished(pod, code, json.dumps(words) if words else "", reason))

    def reach(self, stage: str, name: str = "tiny") -> Object:
        """Let the stages before one succeed, and return its pod."""
        for earlier in ("prepare", "train", "publish"):
            if earlier == stage:
                return self.pod(f"{name}-{stage}-1")
            self.succeed(earlier, name)
        raise AssertionError(stage)

    def status(self, name: str = "tiny") -> Object:
        return self.cluster.get("FineTuneJob", name, self.namespace)["status"]

    def until(self, reason: str, name: str = "tiny", timeout: float = 300) -> Object:
        """Wait for a reason of Ready, and return the status."""
        return self.cluster.wait(
            "FineTuneJob", name, lambda obj: condition(obj, "Ready").get("reason") == reason, self.namespace, timeout
        )["status"]

    def message(self, reason: str, name: str = "tiny", timeout: float = 300) -> str:
        return condition({"status": self.until(reason, name, timeout)}, "Ready")["message"]

    def change(self, spec: Object, name: str = "tiny") -> None:
        self.cluster.patch("FineTuneJob", name, {"spec": spec}, self.namespace)


@pytest.fixture
def stages(cluster: Cluster, namespace: str) -> Iterator[Stages]:
    """An operator that watches a fresh namespace, and its stages."""
    with operator(cluster, namespace):
        yield Stages(cluster, namespace)


def words(reason: str, message: str, remedy: str = "") -> Object:
    return {"reason": reason, "message": message, "remedy": remedy, "result": {}}


def test_a_job_from_its_creation_to_its_end_and_its_deletion(stages: Stages, cluster: Cluster, namespace: str):
    with StatusRecorder(cluster, namespace) as recorder:
        stages.create()
        for stage in ("prepare", "train", "publish"):
            stages.succeed(stage)
        status = ended(cluster, namespace, "tiny")["status"]
    assert status["phase"] == "Succeeded"
    assert status["attempts"] == {"prepare": 1, "train": 1, "publish": 1}
    assert status["artifact"] == {**RESULTS["publish"]["artifact"], "uri": "pvc://tiny-work/job/artifact"}
    assert status["metrics"]["after"] == {"evalLoss": 0.5, "exactMatch": 0.9}
    assert status["progress"]["step"] == 12
    assert status["resolved"]["totalSteps"]["value"] == 12
    assert recorder.backwards == []
    claim = cluster.get("PersistentVolumeClaim", "tiny-work", namespace)
    assert "ownerReferences" not in claim["metadata"]  # by the time that the end is told
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
    cluster.delete("FineTuneJob", "tiny", namespace)
    for kind in ("Job", "Pod"):
        cluster.wait_all(kind, lambda objects: not objects, namespace)
    assert cluster.find("PersistentVolumeClaim", "tiny-work", namespace)
    # A job of the same name gets a volume of its own, and the other's artifact stays.
    cluster.create(job(), namespace)
    uid = cluster.get("FineTuneJob", "tiny", namespace)["metadata"]["uid"]
    pod = stages.pod("tiny-prepare-1")
    assert pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == f"tiny-{uid[:8]}-work"


def test_a_volume_that_nothing_is_to_be_kept_of_goes_with_the_job(stages: Stages, cluster: Cluster, namespace: str):
    stages.create(output={"retain": False})
    for stage in ("prepare", "train", "publish"):
        stages.succeed(stage)
    assert ended(cluster, namespace, "tiny")["status"]["phase"] == "Succeeded"
    cluster.delete("FineTuneJob", "tiny", namespace)
    # Its finalizer waits for the pods, and nothing but the garbage collector removes it.
    cluster.wait_all("PersistentVolumeClaim", lambda claims: not claims, namespace)


@pytest.mark.parametrize(
    ("code", "said", "reason", "shown"),
    [
        (11, words("InvalidDataset", "rows.jsonl:3: no prompt", "Add it"), "InvalidDataset", "rows.jsonl:3: no prompt"),
        (137, None, "OutOfMemory", "stages.prepare.memory"),
        (65, words("SourceUnavailable", "s3://b: cannot read now"), "SourceUnavailable", "given up after 0 restarts"),
    ],
    ids=["final", "killed", "restarts-used-up"],
)
def test_a_stage_that_fails_for_good(stages: Stages, code: int, said: Object | None, reason: str, shown: str):
    stages.create(scheduling={"maxRestarts": 0})
    stages.fail("tiny-prepare-1", code, said, "OOMKilled" if code == 137 else "")
    status = stages.until(reason)
    assert status["phase"] == "Failed"
    assert condition({"status": status}, "Stalled")["status"] == "True"
    assert shown in condition({"status": status}, "Ready")["message"]
    assert [item["metadata"]["name"] for item in stages.cluster.list("Job", stages.namespace)] == ["tiny-prepare-1"]


def test_a_job_that_failed_in_publish_goes_on_there_with_a_changed_manifest(
    stages: Stages, cluster: Cluster, namespace: str
):
    stages.create(evaluation={"gates": [{"metric": "evalLoss", "max": 1}]})
    stages.reach("publish")
    stages.fail("tiny-publish-1", 16, words("GateFailed", "evalLoss is 3"))
    stages.until("GateFailed")
    before = {item["metadata"]["name"]: item["metadata"]["uid"] for item in cluster.list("Job", namespace)}
    cluster.apply([job(evaluation={"gates": [{"metric": "evalLoss", "max": 9}]})], namespace)
    status = stages.until("Publishing")
    assert status["observedGeneration"] == 2
    found = [condition({"status": status}, kind)["status"] for kind in ("Ready", "Reconciling", "Stalled")]
    assert found == ["Unknown", "True", "False"]
    config = json.loads(
        next(
            item["value"]
            for item in stages.pod("tiny-publish-2")["spec"]["containers"][0]["env"]
            if item["name"] == "TUNESMITH_JOB_CONFIG"
        )
    )
    assert config["spec"]["evaluation"]["gates"] == [{"metric": "evalLoss", "max": 9}]
    stages.succeed("publish", attempt=2)
    status = stages.until("Completed")
    assert status["attempts"] == {"prepare": 1, "train": 1, "publish": 2}
    after = {item["metadata"]["name"]: item["metadata"]["uid"] for item in cluster.list("Job", namespace)}
    assert after.keys() - before.keys() == {"tiny-publish-2"}
    assert after.items() >= before.items()
    # The operator has written the success, and the API server keeps it.
    with pytest.raises(ApiError, match="do not change once the job has succeeded"):
        stages.change({"export": {"mergeWeights": True}})


def test_a_change_while_publish_runs_starts_it_again(stages: Stages, cluster: Cluster, namespace: str):
    stages.create()
    pod = stages.reach("publish")
    stages.say(pod, running(pod))
    stages.until("Publishing")
    stages.change({"export": {"parity": {"maxLogitDifference": 1}}})
    cluster.wait_gone("Job", "tiny-publish-1", namespace)
    assert cluster.find("Job", "tiny-publish-2", namespace) is None or not cluster.find(
        "Pod", pod["metadata"]["name"], namespace
    )
    if cluster.find("Pod", pod["metadata"]["name"], namespace) is not None:
        cluster.delete("Pod", pod["metadata"]["name"], namespace, grace=0)
    stages.succeed("publish", attempt=2)
    assert stages.until("Completed")["attempts"] == {"prepare": 1, "train": 1, "publish": 2}


def test_a_job_that_failed_before_publish_stays_failed(stages: Stages, cluster: Cluster, namespace: str):
    stages.create()
    stages.fail("tiny-prepare-1", 11, words("InvalidDataset", "rows.jsonl:3: no prompt", "Add it"))
    stages.until("InvalidDataset")
    stages.change({"export": {"mergeWeights": True}})
    seen = cluster.wait("FineTuneJob", "tiny", lambda obj: obj["status"]["observedGeneration"] == 2, namespace)
    assert seen["status"]["phase"] == "Failed"
    assert "this one failed in prepare. Delete it and apply it again" in condition(seen, "Ready")["message"]
    assert [item["metadata"]["name"] for item in cluster.list("Job", namespace)] == ["tiny-prepare-1"]


def test_a_pod_that_was_told_to_stop_is_replaced_and_not_counted(stages: Stages):
    stages.create(scheduling={"maxRestarts": 0})
    stages.reach("train")
    stages.fail("tiny-train-1", 66, words("Interrupted", "told to stop"))
    replacement = stages.pod("tiny-train-1")  # made by the Job itself, after its back-off of 10 s
    assert replacement["status"]["phase"] == "Pending"
    message = condition({"status": stages.status()}, "Ready")["message"]
    assert "1 pod had to be replaced, the last one because of Interrupted" in message
    assert stages.status()["attempts"] == {"prepare": 1, "train": 1}


def test_an_evicted_pod_is_replaced_and_not_counted(stages: Stages, cluster: Cluster, namespace: str):
    stages.create(scheduling={"maxRestarts": 0})
    pod = stages.reach("train")
    stages.say(pod, running(pod))
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod["metadata"]["name"], "namespace": namespace},
    }
    path = cluster.http.resource("Pod").path(namespace, pod["metadata"]["name"]) + "/eviction"
    cluster.http.request("POST", path, eviction)
    pod = cluster.get("Pod", pod["metadata"]["name"], namespace)
    assert condition(pod, "DisruptionTarget")["status"] == "True"
    # No second pod of the place while the first may still write: the trainer saves its checkpoint, then the pod ends.
    assert len(cluster.list("Pod", namespace, labels="batch.kubernetes.io/job-name=tiny-train-1")) == 1
    status = finished(pod, 137)
    status["conditions"] += pod["status"]["conditions"]
    stages.say(pod, status)
    cluster.delete("Pod", pod["metadata"]["name"], namespace, grace=0)
    replacement = stages.pod("tiny-train-1")
    assert replacement["metadata"]["uid"] != pod["metadata"]["uid"]
    assert stages.status()["phase"] == "Training"


def test_a_secret_that_is_missing_is_waited_for(stages: Stages):
    stages.create(model={"uri": "hf://a/b", "secretRef": {"name": "hub"}}, method="lora")
    pod = stages.pod("tiny-prepare-1")
    assert pod["spec"]["containers"][0]["envFrom"] == [{"secretRef": {"name": "hub"}}]
    status = running(pod)
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "hub" not found'}}
    status["containerStatuses"][0] |= {"ready": False, "started": False, "state": waiting}
    stages.say(pod, {**status, "phase": "Pending"})
    assert "Secret hub" in stages.message("MissingReference")
    assert stages.status()["phase"] == "Preparing"
    # The Secret appears, and the kubelet starts the container.
    stages.say(pod, running(pod))
    stages.until("Preparing")


@pytest.mark.parametrize(
    ("status", "reason", "shown"),
    [
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
                    }
                ]
            },
            "Unschedulable",
            "1 Insufficient nvidia.com/gpu",
        ),
        (
            {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}},
            "ImagePullFailed",
            "imagePullSecrets",
        ),
    ],
    ids=["unschedulable", "image"],
)
def test_what_can_pass_is_waited_for(stages: Stages, status: Object, reason: str, shown: str):
    stages.create()
    pod = stages.pod("tiny-prepare-1")
    if "waiting" in status:
        told = running(pod)
        told["containerStatuses"][0] |= {"ready": False, "started": False, "state": status}
        status = {**told, "phase": "Pending"}
    stages.say(pod, status)
    assert shown in stages.message(reason)
    found = stages.status()
    assert [condition({"status": found}, kind)["status"] for kind in ("Ready", "Reconciling", "Stalled")] == [
        *("Unknown", "True", "False")
    ]
    stages.succeed("prepare")
    stages.until("Training")


def test_a_claim_that_is_missing_is_waited_for(stages: Stages, cluster: Cluster, namespace: str):
    stages.create(storage={"claimName": "shared"})
    assert "PersistentVolumeClaim shared" in stages.message("MissingReference")
    assert cluster.list("Job", namespace) == []
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "shared"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    cluster.create(claim, namespace)
    assert stages.pod("tiny-prepare-1")["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "shared"}


def test_work_in_an_object_store_has_no_volume(stages: Stages, cluster: Cluster, namespace: str):
    stages.create(**STORE)
    for stage in ("prepare", "train", "publish"):
        pod = stages.reach(stage) if stage == "prepare" else stages.pod(f"tiny-{stage}-1")
        assert "ephemeral" in pod["spec"]["volumes"][0]
        assert pod["spec"]["containers"][0]["envFrom"] == [{"secretRef": {"name": "storage"}}]
        stages.succeed(stage)
    stages.until("Completed")
    # Its pods' own disks would be made by the kubelet's controller; the operator makes none.
    claims = cluster.list("PersistentVolumeClaim", namespace)
    assert all(claim["metadata"]["ownerReferences"][0]["kind"] == "Pod" for claim in claims)
    cluster.delete("FineTuneJob", "tiny", namespace)


def test_a_claim_of_one_node_is_refused_for_two(stages: Stages, cluster: Cluster, namespace: str):
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "shared"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    cluster.create(claim, namespace)
    stages.create(storage={"claimName": "shared"}, resources={"nodes": 2})
    assert "ReadWriteMany" in stages.message("InvalidSpec")
    assert stages.status()["phase"] == "Failed"
    assert cluster.list("Job", namespace) == []


def test_a_quota_of_jobs_is_waited_for(stages: Stages, cluster: Cluster, namespace: str):
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "jobs"},
        "spec": {"hard": {"count/jobs.batch": "0"}},
    }
    cluster.create(quota, namespace)
    cluster.wait("ResourceQuota", "jobs", lambda obj: obj.get("status", {}).get("hard"), namespace)
    stages.create()
    assert "exceeded quota" in stages.message("QuotaExceeded")
    assert stages.status()["phase"] == "Pending"
    cluster.patch("ResourceQuota", "jobs", {"spec": {"hard": {"count/jobs.batch": "9"}}}, namespace)
    stages.pod("tiny-prepare-1")


@pytest.mark.slow
@pytest.mark.parametrize("pods", [0, 1])
def test_a_quota_of_pods_is_told_by_the_jobs_events(stages: Stages, cluster: Cluster, namespace: str, pods: int):
    """Of no pod at all, and of the second of two nodes."""
    hard = {"pods": str(pods)}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "pods"}, "spec": {"hard": hard}}
    cluster.create(quota, namespace)
    cluster.wait("ResourceQuota", "pods", lambda obj: obj.get("status", {}).get("hard"), namespace)
    stages.create(resources={"nodes": 2}, storage={"accessMode": "ReadWriteMany"})
    if pods:
        first = stages.reach("train")
        stages.say(first, running(first))
    assert "exceeded quota" in stages.message("QuotaExceeded")
    cluster.patch("ResourceQuota", "pods", {"spec": {"hard": {"pods": "2"}}}, namespace)
    if pods:
        for pod in stages.pods("tiny-train-1", 2):
            stages.say(pod, running(pod))
        stages.until("Training")
    else:
        stages.pod("tiny-prepare-1")


def test_a_job_is_suspended_and_goes_on(stages: Stages, cluster: Cluster, namespace: str):
    stages.create()
    pod = stages.reach("train")
    stages.say(pod, running(pod))
    stages.change({"suspend": True})
    stages.until("Suspended")
    cluster.wait_gone("Job", "tiny-train-1", namespace)
    stages.change({"suspend": False})
    pod = cluster.find("Pod", pod["metadata"]["name"], namespace)
    if pod is not None:  # it has its time to save a checkpoint, and only then the next attempt begins
        assert cluster.find("Job", "tiny-train-2", namespace) is None
        cluster.delete("Pod", pod["metadata"]["name"], namespace, grace=0)
    stages.succeed("train", attempt=2)
    stages.succeed("publish")
    status = ended(cluster, namespace, "tiny")["status"]
    assert status["attempts"] == {"prepare": 1, "train": 2, "publish": 1}
    assert status["pausedSeconds"] >= 0 if "pausedSeconds" in status else True


def test_a_queue_holds_a_job_until_it_admits_it(stages: Stages, cluster: Cluster, namespace: str):
    stages.create(scheduling={"queueName": "gold"})
    assert "gold" in stages.message("Queued")
    found = cluster.get("Job", "tiny-prepare-1", namespace)
    assert (found["spec"]["suspend"], found["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]) == (True, "gold")
    # What Kueue writes at admission, the operator never writes back.
    admitted = {"suspend": False, "template": {"spec": {"nodeSelector": {"flavor": "on-demand"}}}}
    cluster.patch("Job", "tiny-prepare-1", {"spec": admitted}, namespace)
    stages.until("Preparing")  # else the next Queued would be found where the first one still stands
    stages.succeed("prepare")
    stages.until("Queued")
    assert cluster.get("Job", "tiny-prepare-1", namespace)["spec"]["template"]["spec"]["nodeSelector"]
    assert stages.status()["attempts"] == {"prepare": 1, "train": 1}


def test_the_deadline_and_the_time_to_live(stages: Stages, cluster: Cluster, namespace: str):
    stages.create(scheduling={"activeDeadlineSeconds": 2}, ttlSecondsAfterFinished=600)
    pod = stages.pod("tiny-prepare-1")
    stages.say(pod, running(pod))
    assert "activeDeadlineSeconds" in stages.message("DeadlineExceeded")
    stages.change({"ttlSecondsAfterFinished": 0})
    cluster.wait_gone("FineTuneJob", "tiny", namespace)


def test_two_nodes_have_names_and_a_service(stages: Stages, cluster: Cluster, namespace: str):
    stages.create(resources={"nodes": 2}, storage={"accessMode": "ReadWriteMany"})
    stages.succeed("prepare")
    pods = stages.pods("tiny-train-1", 2)
    assert sorted(pod["spec"]["hostname"] for pod in pods) == ["tiny-train-1-0", "tiny-train-1-1"]
    service = cluster.get("Service", "tiny-train", namespace)["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    for pod in pods:
        assert service["selector"].items() <= pod["metadata"]["labels"].items()
        assert pod["spec"]["subdomain"] == "tiny-train"
    stages.succeed("train", count=2)
    stages.until("Publishing")


FULL = {
    "model": {"uri": "hf://a/b", "secretRef": {"name": "hub"}},
    "method": "lora",
    "resources": {
        "gpusPerNode": 2,
        "nodes": 2,
        "gpu": {"product": "NVIDIA-A100-SXM4-80GB", "minMemoryGiB": 80},
        "instanceType": "Standard_NC48ads_A100_v4",
        "nodePool": "gpu",
        "nodeSelector": {"zone": "1"},
        "tolerations": [{"key": "team", "value": "search", "effect": "NoExecute", "tolerationSeconds": 60}],
        "spot": True,
        "cpu": 8,
        "memory": "64Gi",
    },
    "stages": {
        "prepare": {"cpu": "2", "memory": "4Gi", "nodeSelector": {"zone": "2"}, "tolerations": [{"key": "cpu"}]},
        "publish": {"memory": "16Gi", "gpus": 1},
    },
    "scheduling": {"queueName": "gold", "activeDeadlineSeconds": 3600, "maxRestarts": 5},
    "storage": {"accessMode": "ReadWriteMany", "size": "1Ti", "storageClassName": "azurefile-csi-premium"},
    "output": {"uri": "abfs://models/tiny", "secretRef": {"name": "storage"}},
    "podTemplate": {
        "labels": {"azure.workload.identity/use": "true"},
        "annotations": {"sidecar.istio.io/inject": "false"},
        "image": "registry.example.com/trainer:1",
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "imagePullSecrets": [{"name": "registry"}],
    },
}


STORE = {
    "storage": {"uri": "s3://bucket/work", "secretRef": {"name": "storage"}, "size": "1Ti", "storageClassName": "fast"}
}


@pytest.mark.parametrize("spec", [{}, FULL, STORE], ids=["smallest", "every-field", "object-store"])
def test_what_is_made_is_taken_by_the_api_server(cluster: Cluster, namespace: str, spec: Object, expand: Callable):
    for made in expand(cluster.create(job(**spec), namespace)):
        resource = cluster.http.resource(made["kind"])
        taken = cluster.http.request("POST", resource.path(namespace), made, dryRun="All", fieldValidation="Strict")
        assert taken["metadata"]["name"] == made["metadata"]["name"]
        if made["kind"] != "Job":
            continue
        template = made["spec"]["template"]
        pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {**template["metadata"], "name": "x"}}
        # `restricted` is enforced on the namespace.
        cluster.http.request(
            "POST", cluster.http.resource("Pod").path(namespace), pod, dryRun="All", fieldValidation="Strict"
        )


@pytest.fixture
def expand() -> Callable[[Object], list[Object]]:
    """Return all objects that are made for a job."""
    from tunesmith_api.objects import FineTuneJobSpec
    from tunesmith_api.work_folder import Stage
    from tunesmith_operator.config.settings import OperatorSettings
    from tunesmith_operator.finetunejob.jobs import stage_job, train_service
    from tunesmith_operator.finetunejob.planning import Planned
    from tunesmith_operator.finetunejob.volume import claim

    def objects(obj: Object) -> list[Object]:
        spec = FineTuneJobSpec.model_validate(obj["spec"])
        settings = OperatorSettings(progress_url="https://progress.tunesmith-system.svc:8443")
        name = None if spec.storage.uri else "tiny-work"
        jobs = [stage_job(obj, Planned(spec), stage, 1, name, settings, 100) for stage in Stage]
        return jobs if name is None else [claim(obj, spec, "tiny-work", None, release=False), train_service(obj), *jobs]

    return objects
