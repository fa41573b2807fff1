"""The pods, the Deployment and the Service of a workspace."""

import pytest

from support.workspaces import DIGEST, UID, a_job, a_workspace, child, decided
from tunesmith_operator.config.settings import OperatorSettings

JOB = a_job("job-a", DIGEST["a"])


def made(job=JOB, kind="Deployment", one_node=frozenset(), **spec):
    obj = child(decided(a_workspace(**spec), job, one_node=one_node), kind)
    assert obj is not None
    return obj


def pod_of(deployment):
    return deployment["spec"]["template"]["spec"]


def server_of(deployment):
    return pod_of(deployment)["containers"][0]


def options_of(deployment):
    arguments = server_of(deployment)["args"]
    return dict(zip(arguments[::2], arguments[1::2], strict=True))


def test_the_server_is_told_everything():
    runtime = {
        "precision": "fp32",
        "contextLength": 1024,
        "prefixCacheMemory": "64Mi",
        "maxBatchSize": 3,
        "maxQueueLength": 7,
    }
    rollout = {"drainSeconds": 4, "shutdownSeconds": 40}
    deployment = made(runtime=runtime, rollout=rollout, resources={"cpu": "1500m"})
    assert options_of(deployment) == {
        "--artifact": "/artifact",
        "--model-name": "faq",
        "--host": "0.0.0.0",
        "--port": "8080",
        "--precision": "fp32",
        "--context-length": "1024",
        "--prefix-cache-memory": "64Mi",
        "--slots": "3",
        "--draft-tokens": "5",
        "--max-queue": "7",
        "--drain-seconds": "4",
        "--shutdown-seconds": "40",
        "--threads": "2",
        "--expect-digest": DIGEST["a"],
    }
    assert pod_of(deployment)["terminationGracePeriodSeconds"] > 44


def test_without_a_precision_the_server_chooses():
    assert "--precision" not in options_of(made())
    deployment = made(model={"uri": "s3://bucket/a"}, runtime={"precision": "fp32"})
    (fetch,) = pod_of(deployment)["initContainers"]
    assert fetch["args"][-2:] == ["--precision", options_of(deployment)["--precision"]] == ["--precision", "fp32"]


def test_the_server_takes_these_options():
    from tunesmith_serving.process.options import build_parser
    from tunesmith_serving.runtime.config import ServingConfig

    given = vars(build_parser().parse_args(server_of(made(resources={"cpu": 1}))["args"]))
    del given["artifact"]
    config = ServingConfig(**{name: value for name, value in given.items() if value is not None})
    assert (config.host, config.expect_digest, config.threads) == ("0.0.0.0", DIGEST["a"], 1)


def test_a_rollout_loses_no_request():
    spec = made(rollout={"progressDeadlineSeconds": 120})["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["minReadySeconds"] > 0
    assert spec["progressDeadlineSeconds"] == 120
    server = spec["template"]["spec"]["containers"][0]
    assert server["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert server["livenessProbe"]["httpGet"]["path"] == "/healthz"
    startup = server["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120
    assert server["ports"] == [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]


@pytest.mark.parametrize("job", [JOB, a_job("job-a", DIGEST["a"], uri="s3://bucket/a")], ids=["volume", "store"])
def test_every_container_is_restricted(job):
    pod = pod_of(made(job))
    assert pod["automountServiceAccountToken"] is False
    security = pod["securityContext"]
    assert (security["runAsNonRoot"], security["runAsUser"], security["fsGroup"]) == (True, 65532, 65532)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["containers"], *pod.get("initContainers", ())):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
        assert {"name": "HOME", "value": "/tmp"} in container["env"]
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
        assert container["resources"]["requests"]


@pytest.mark.parametrize(
    ("uri", "claim", "path"),
    [("pvc://claim/a/b", "claim", "a/b"), ("pvc://my.claim/a/", "my.claim", "a")],
)
def test_an_artifact_on_a_volume_is_mounted_read_only(uri, claim, path):
    for deployment in (made(a_job("job-a", DIGEST["a"], uri=uri)), made(model={"uri": uri.rstrip("/")})):
        pod = pod_of(deployment)
        volume = next(item for item in pod["volumes"] if item["name"] == "artifact")
        assert volume["persistentVolumeClaim"] == {"claimName": claim, "readOnly": True}
        mount = next(item for item in server_of(deployment)["volumeMounts"] if item["name"] == "artifact")
        assert mount == {"name": "artifact", "mountPath": "/artifact", "subPath": path, "readOnly": True}
        assert "initContainers" not in pod


def test_an_artifact_elsewhere_is_fetched_first():
    deployment = made(model={"uri": "s3://bucket/a", "secretRef": {"name": "storage"}})
    (fetch,) = pod_of(deployment)["initContainers"]
    assert fetch["image"] == OperatorSettings().trainer_image
    assert fetch["args"] == ["fetch", "s3://bucket/a", "/artifact", "--precision", "smallest"]
    assert fetch["envFrom"] == [{"secretRef": {"name": "storage"}}]
    mount = next(item for item in server_of(deployment)["volumeMounts"] if item["name"] == "artifact")
    assert mount == {"name": "artifact", "mountPath": "/artifact", "readOnly": True}
    assert {"name": "artifact", "emptyDir": {}} in pod_of(deployment)["volumes"]
    assert "--expect-digest" not in server_of(deployment)["args"], "nobody knows it"


def test_the_secret_of_the_jobs_output_is_the_default():
    job = a_job("job-a", DIGEST["a"], uri="s3://bucket/a")
    job["spec"] = {"output": {"uri": "s3://bucket/a", "secretRef": {"name": "of-the-job"}}}
    (fetch,) = pod_of(made(job))["initContainers"]
    assert fetch["envFrom"] == [{"secretRef": {"name": "of-the-job"}}]
    (fetch,) = pod_of(made(job, model={"fineTuneJob": "job-a", "secretRef": {"name": "own"}}))["initContainers"]
    assert fetch["envFrom"] == [{"secretRef": {"name": "own"}}]


def test_resources_and_place():
    toleration = {"key": "sku", "operator": "Exists", "effect": "NoSchedule"}
    resources = {"cpu": 2, "memory": "4Gi", "nodeSelector": {"pool": "x"}, "tolerations": [toleration]}
    deployment = made(resources=resources)
    assert server_of(deployment)["resources"] == {
        "requests": {"cpu": "2", "memory": "4Gi"},
        "limits": {"memory": "4Gi"},
    }
    assert pod_of(deployment)["nodeSelector"] == {"pool": "x"}
    assert pod_of(deployment)["tolerations"] == [toleration]
    assert "--threads" not in server_of(made())["args"]


def test_servers_stay_together_only_where_their_volume_demands_it():
    apart = pod_of(made())
    assert apart["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "ScheduleAnyway"
    assert "affinity" not in apart
    together = pod_of(made(one_node=frozenset({"job-a-work"})))
    (term,) = together["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    # Of the same volume only: another one is perhaps in another zone. Of all revisions that are on it: while servers of
    # the one before hold the volume, no other node can mount it.
    wanted = term["labelSelector"]["matchLabels"]
    assert "tunesmith.dev/revision" not in wanted
    own, other = (
        made(job, one_node=frozenset({claim}))["spec"]["template"]["metadata"]["labels"]
        for job, claim in ((JOB, "job-a-work"), (a_job("job-a", DIGEST["b"], uri="pvc://other/a"), "other"))
    )
    assert wanted.items() <= own.items()
    assert not wanted.items() <= other.items()
    assert "topologySpreadConstraints" not in together


def test_the_api_key_comes_from_its_secret():
    env = server_of(made(auth={"apiKeySecretRef": {"name": "keys", "key": "faq"}}))["env"]
    reference = {"secretKeyRef": {"name": "keys", "key": "faq"}}
    assert {"name": "TUNESMITH_API_KEY", "valueFrom": reference} in env
    assert "TUNESMITH_API_KEY" not in {item["name"] for item in server_of(made())["env"]}


def test_what_is_added_to_the_pods_is_merged_last():
    added = {
        "labels": {"team": "search", "tunesmith.dev/owner-uid": "stolen"},
        "annotations": {"note": "x"},
        "serviceAccountName": "identity",
        "imagePullSecrets": [{"name": "registry"}],
        "env": [{"name": "HOME", "value": "/home"}, {"name": "PROXY", "value": "p"}],
    }
    deployment = made(podTemplate=added)
    metadata = deployment["spec"]["template"]["metadata"]
    assert metadata["labels"]["team"] == "search"
    assert metadata["labels"]["tunesmith.dev/owner-uid"] == UID, "the selector would no longer find them"
    assert metadata["annotations"]["note"] == "x"
    pod = pod_of(deployment)
    assert pod["serviceAccountName"] == "identity"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    env = server_of(deployment)["env"]
    assert {"name": "HOME", "value": "/home"} in env and {"name": "PROXY", "value": "p"} in env
    assert len({item["name"] for item in env}) == len(env)


@pytest.mark.parametrize(
    "spec",
    [
        {"runtime": {"contextLength": 4096}},
        {"resources": {"memory": "1Gi"}},
        {"auth": {"apiKeySecretRef": {"name": "a", "key": "b"}}},
        {"podTemplate": {"annotations": {"a": "b"}}},
        {"rollout": {"drainSeconds": 9}},
    ],
    ids=lambda spec: next(iter(spec)),
)
def test_new_pods_are_told_from_old_ones(spec):
    def template(**given):
        return made(**given)["spec"]["template"]["metadata"]["labels"]["tunesmith.dev/template"]

    assert template(**spec) != template()
    assert template(replicas=5) == template()
    assert template(rollout={"progressDeadlineSeconds": 999}) != template(), "the startup probe waits as long"


def test_the_service_and_the_budget_select_the_pods():
    for replicas, kind in ((1, "Service"), (2, "PodDisruptionBudget")):
        obj = made(replicas=replicas, kind=kind)
        selector = obj["spec"]["selector"]
        labels = made()["spec"]["template"]["metadata"]["labels"]
        assert selector.get("matchLabels", selector).items() <= labels.items()
    (port,) = made(kind="Service")["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, "http")
