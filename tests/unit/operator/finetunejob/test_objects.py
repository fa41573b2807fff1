"""The Jobs, pods and volumes that are made of a spec."""

import json

import pytest

from support.job_facts import SETTINGS, UID, World
from tunesmith_api import contract
from tunesmith_api.failures import EXIT_CODES, Reason
from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import Stage
from tunesmith_operator.finetunejob.jobs import stage_job, train_service
from tunesmith_operator.finetunejob.names import claim_name, job_name, service_name
from tunesmith_operator.finetunejob.planning import Planned
from tunesmith_operator.finetunejob.publish_inputs import PUBLISH_INPUTS
from tunesmith_operator.finetunejob.volume import artifact_of, artifact_uri, claim

GPU = {"gpusPerNode": 2}


def built(stage: Stage = Stage.TRAIN, settings=SETTINGS, **spec):
    """Return a stage's Job, its pod's spec and its container."""
    world = World(spec)
    parsed = FineTuneJobSpec.model_validate(world.job["spec"])
    job = stage_job(world.job, Planned(parsed), stage, 1, "tiny-work", settings, None)
    pod = job["spec"]["template"]["spec"]
    return job, pod, pod["containers"][0]


def env(container) -> dict[str, str]:
    return {item["name"]: item.get("value") for item in container["env"]}


@pytest.mark.parametrize("stage", list(Stage))
def test_pods_keep_to_the_restricted_level_and_have_no_rights(stage):
    _, pod, container = built(stage)
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert pod["automountServiceAccountToken"] is False
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] == 120
    assert {"name": "tmp", "emptyDir": {}} in pod["volumes"]
    shm = {"name": "shm", "emptyDir": {"medium": "Memory"}}
    assert (shm in pod["volumes"]) == (stage is Stage.TRAIN)


@pytest.mark.parametrize(("path", "is_made"), [("/nvme/here", True), ("/work/offload", False), ("/tmp", False)])  # noqa: S108
def test_training_offloads_to_a_folder_that_can_be_written(path, is_made):
    for stage in Stage:
        _, pod, container = built(stage, distributed={"offload": "all", "nvmePath": path})
        expected = is_made and stage is Stage.TRAIN
        assert ({"name": "offload", "emptyDir": {}} in pod["volumes"]) == expected
        assert ({"name": "offload", "mountPath": path} in container["volumeMounts"]) == expected


def test_exit_codes_say_what_is_tried_again():
    job, _, _ = built()
    ignore_disruptions, ignore, fail = job["spec"]["podFailurePolicy"]["rules"]
    assert ignore_disruptions == {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    assert (ignore["action"], ignore["onExitCodes"]["values"]) == ("Ignore", [66, 67, 143])
    final = [code for reason, code in EXIT_CODES.items() if code < 64]
    assert (fail["action"], fail["onExitCodes"]["values"]) == ("FailJob", [2, *final, 137])
    for reason in (Reason.SOURCE_UNAVAILABLE, Reason.INTERNAL_ERROR, Reason.PEER_UNREACHABLE):
        assert EXIT_CODES[reason] not in (*ignore["onExitCodes"]["values"], *fail["onExitCodes"]["values"])
    assert job["spec"]["podReplacementPolicy"] == "Failed"


def test_restarts_are_counted_for_each_machine_and_the_first_without_ends_the_job():
    spec, _, _ = built(resources={"nodes": 3}, storage={"accessMode": "ReadWriteMany"}, **batch(12))
    spec = spec["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (3, 3, "Indexed")
    assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"], "backoffLimit" in spec) == (3, 0, False)
    spec = built(Stage.PREPARE, scheduling={"maxRestarts": 1})[0]["spec"]
    assert (spec["backoffLimit"], "completions" in spec) == (1, False)


def batch(size: int) -> dict:
    return {"training": {"globalBatchSize": size}}


def test_gpus_are_held_only_while_training():
    assert built(resources=GPU)[2]["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    for stage in (Stage.PREPARE, Stage.PUBLISH):
        _, pod, container = built(stage, resources={**GPU, "nodePool": "gpu", "spot": True})
        assert "limits" not in container["resources"]
        assert not {"nodeSelector", "tolerations", "affinity"} & set(pod)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, {}),
        (
            GPU,
            {
                "tolerations": [
                    {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"},
                    {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
                ]
            },
        ),
        ({"nodePool": "cpu"}, {"nodeSelector": {"kubernetes.azure.com/agentpool": "cpu"}}),
        (
            {"instanceType": "Standard_D8s_v5", "nodeSelector": {"disk": "ssd"}},
            {"nodeSelector": {"disk": "ssd", "node.kubernetes.io/instance-type": "Standard_D8s_v5"}},
        ),
        (
            {"tolerations": [{"key": "team", "value": "search"}]},
            {"tolerations": [{"key": "team", "operator": "Equal", "value": "search"}]},
        ),
        (
            {"spot": True},
            {
                "tolerations": [
                    {
                        "key": "kubernetes.azure.com/scalesetpriority",
                        "operator": "Equal",
                        "value": "spot",
                        "effect": "NoSchedule",
                    }
                ],
                "affinity": [
                    [("kubernetes.azure.com/scalesetpriority", "In", ["spot"])],
                    [("karpenter.sh/capacity-type", "In", ["spot"])],
                ],
            },
        ),
    ],
)
def test_pods_go_where_the_spec_says(resources, expected):
    assert placed(built(resources=resources)[1]) == expected


def placed(pod) -> dict:
    """Return the placement of a pod, its affinity as lists of (key, operator, values)."""
    found = {name: pod[name] for name in ("nodeSelector", "tolerations", "affinity") if name in pod}
    if "affinity" in found:
        required = found["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        found["affinity"] = [
            [(e["key"], e["operator"], e["values"]) for e in term["matchExpressions"]]
            for term in required["nodeSelectorTerms"]
        ]
    return found


def test_gpus_are_chosen_by_what_discovery_says_of_them():
    resources = {**GPU, "gpu": {"product": "NVIDIA-H100-80GB-HBM3", "minMemoryGiB": 80}, "spot": True}
    found = placed(built(resources=resources)[1])
    assert found["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    for term in found["affinity"]:
        key, operator, (bound,) = term[0]
        assert (key, operator) == ("nvidia.com/gpu.memory", "Gt")
        assert 48_000 < int(bound) < 81_559  # what an H100 of "80 GB" reports, in MiB
    assert [term[1][0] for term in found["affinity"]] == [
        "kubernetes.azure.com/scalesetpriority",
        "karpenter.sh/capacity-type",
    ]


def test_gpus_of_others():
    _, pod, container = built(resources={**GPU, "resourceName": "amd.com/gpu"})
    assert container["resources"]["limits"] == {"amd.com/gpu": "2"}
    assert [item["key"] for item in pod["tolerations"]] == ["sku", "nvidia.com/gpu", "amd.com/gpu"]


def test_requests_and_limits():
    _, _, container = built(Stage.TRAIN)
    assert container["resources"] == {"requests": {"cpu": "250m", "memory": "512Mi"}}
    _, _, container = built(Stage.PREPARE, resources={"cpu": "3500m", "memory": "4Gi"})
    assert container["resources"] == {"requests": {"cpu": "3500m", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}
    assert env(container)["OMP_NUM_THREADS"] == "4"
    _, _, container = built(resources={"cpu": "4"}, distributed={"numProcPerNode": 2})
    assert env(container)["OMP_NUM_THREADS"] == "2"


def test_the_trainer_gets_what_it_reads_and_nothing_of_the_cluster():
    _, _, container = built(
        Stage.PREPARE,
        model={"uri": "hf://a/b", "secretRef": {"name": "hub"}},
        resources=GPU,
        output={"retain": False},
        suspend=False,
    )
    config = JobConfig.model_validate_json(env(container)["TUNESMITH_JOB_CONFIG"])
    assert (config.name, config.namespace, config.spec.model.uri) == ("tiny", "team", "hf://a/b")
    given = json.loads(env(container)["TUNESMITH_JOB_CONFIG"])["spec"]
    assert not {"resources", "scheduling", "storage", "suspend", "podTemplate", "output"} & set(given)
    assert "secretRef" not in given["model"]
    assert container["command"] == ["python", "-m", "tunesmith_trainer"]
    assert container["args"] == ["prepare", "--work", f"/work/tiny-{UID[:8]}"]
    assert container["workingDir"] == "/work"


def test_secrets_reach_the_stages_that_need_them_only():
    spec = {
        "model": {"uri": "hf://a/b", "secretRef": {"name": "hub"}},
        "dataset": {
            "sources": [{"uri": "s3://b/x.jsonl", "secretRef": {"name": "data"}}, {"uri": "s3://b/y.jsonl"}],
            "validation": {"sources": [{"uri": "s3://b/z.jsonl", "secretRef": {"name": "data"}}]},
        },
        "output": {"uri": "s3://b/out", "secretRef": {"name": "out"}},
    }
    expected = {Stage.PREPARE: ["hub", "data"], Stage.TRAIN: [], Stage.PUBLISH: ["out"]}
    for stage, names in expected.items():
        found = built(stage, **spec)[2].get("envFrom", [])
        assert [item["secretRef"]["name"] for item in found] == names


@pytest.mark.parametrize(
    ("data", "output", "secrets", "is_skipped"),
    [(None, "out", ["out"], False), ("out", "out", ["out"], False), ("data", "out", ["data"], True)]
    + [("data", None, ["data"], True), (None, None, [], False)],
)
def test_prepare_tries_the_output_only_with_the_credentials_that_publish_has(data, output, secrets, is_skipped):
    def ref(name):
        return {"secretRef": {"name": name}} if name else {}

    spec = {
        "dataset": {"sources": [{"uri": "s3://b/x.jsonl", **ref(data)}]},
        "output": {"uri": "s3://b/out", **ref(output)},
    }
    container = built(Stage.PREPARE, **spec)[2]
    assert [item["secretRef"]["name"] for item in container.get("envFrom", [])] == secrets
    names = [variable["name"] for variable in container["env"]]
    assert (contract.SKIP_OUTPUT_PROBE in names) == is_skipped


def test_the_secret_of_the_work_reaches_every_stage_and_gives_way_to_others():
    spec = {
        "model": {"uri": "hf://a/b", "secretRef": {"name": "hub"}},
        "output": {"uri": "s3://b/out", "secretRef": {"name": "out"}},
        "storage": {"uri": "s3://b/work", "secretRef": {"name": "work"}},
    }
    expected = {Stage.PREPARE: ["work", "hub"], Stage.TRAIN: ["work"], Stage.PUBLISH: ["work", "out"]}
    for stage, names in expected.items():
        found = built(stage, **spec)[2]["envFrom"]  # of the same key in two, Kubernetes takes the last
        assert [item["secretRef"]["name"] for item in found] == names


def test_config_maps_are_mounted_where_they_are_read():
    ref = {"configMapKeyRef": {"name": "rows", "key": "a.jsonl"}}
    other = {"configMapKeyRef": {"name": "rows", "key": "b.jsonl"}}
    spec = {"dataset": {"sources": [ref, other], "validation": {"fraction": 0.1}}}
    _, pod, container = built(Stage.PREPARE, **spec)
    assert {"name": "config-map-0", "configMap": {"name": "rows"}} in pod["volumes"]
    mount = {"name": "config-map-0", "mountPath": "/config-maps/rows", "readOnly": True}
    assert mount in container["volumeMounts"]
    assert len(pod["volumes"]) == 3
    assert env(container)["TUNESMITH_CONFIG_MAPS"] == "/config-maps"
    assert len(built(Stage.PUBLISH, **spec)[1]["volumes"]) == 2


def test_progress_is_reported_where_a_server_is():
    settings = SETTINGS.model_copy(update={"progress_url": "https://progress.system.svc:8443/"})
    _, pod, container = built(settings=settings)
    variables = env(container)
    assert variables["KUBEFLOW_TRAINER_SERVER_URL"] == (
        "https://progress.system.svc:8443/apis/trainer.kubeflow.org/v1alpha1/namespaces/team/trainjobs/tiny/status"
    )
    assert variables["KUBEFLOW_TRAINER_SERVER_TOKEN"] == "/var/run/secrets/tunesmith/token"
    identity = next(volume["projected"] for volume in pod["volumes"] if volume["name"] == "identity")
    assert identity["sources"][0]["serviceAccountToken"]["audience"] == "tunesmith.dev"
    assert identity["sources"][1]["configMap"]["optional"] is True
    assert not any(name.startswith("KUBEFLOW") for name in env(built()[2]))


def test_the_pod_template_is_merged_last():
    template = {
        "labels": {"azure.workload.identity/use": "true", "tunesmith.dev/stage": "mine"},
        "annotations": {"sidecar.istio.io/inject": "false"},
        "serviceAccountName": "identity",
        "imagePullSecrets": [{"name": "registry"}],
        "image": "registry.example.com/mine:1",
        "env": [
            {"name": "HF_HOME", "value": "/work/hub"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ],
    }
    settings = SETTINGS.model_copy(update={"image_pull_secrets": ("ours",)})
    job, pod, container = built(settings=settings, podTemplate=template, scheduling={"priorityClassName": "low"})
    about = job["spec"]["template"]["metadata"]
    assert about["labels"]["azure.workload.identity/use"] == "true"
    assert about["labels"]["tunesmith.dev/stage"] == "train"  # ours stay: by them the pod is found
    assert about["annotations"] == {"sidecar.istio.io/inject": "false"}
    assert pod["serviceAccountName"] == "identity"
    assert pod["imagePullSecrets"] == [{"name": "ours"}, {"name": "registry"}]
    assert pod["priorityClassName"] == "low"
    assert container["image"] == "registry.example.com/mine:1"
    assert env(container)["HF_HOME"] == "/work/hub"
    assert [item["name"] for item in container["env"]].count("HF_HOME") == 1
    (token,) = [item for item in container["env"] if item["name"] == "TOKEN"]
    assert token == {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}


def test_no_label_of_the_job_itself_is_copied():
    world = World()
    world.job["metadata"] |= {"labels": {"app": "x"}, "annotations": {"argocd.argoproj.io/tracking-id": "y"}}
    spec = FineTuneJobSpec.model_validate(world.job["spec"])
    job = stage_job(world.job, Planned(spec), Stage.TRAIN, 1, "tiny-work", SETTINGS, None)
    for about in (job["metadata"], job["spec"]["template"]["metadata"], train_service(world.job)["metadata"]):
        assert set(about.get("annotations") or ()) <= {PUBLISH_INPUTS}
        assert "app" not in about["labels"]
        assert about["labels"]["tunesmith.dev/owner-uid"] == UID


@pytest.mark.parametrize("owner", ["a", "my.job", "7b", "x" * 63, "a" * 30 + "." + "b" * 30])
def test_names_are_names(owner):
    import re

    label = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
    names = [job_name(owner, stage, attempt) for stage in Stage for attempt in (1, 2, 100)]
    assert len(set(names)) == len(names)
    for name in names:
        assert label.fullmatch(f"{name}-63")
        assert len(f"{name}-63") <= 63
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", service_name(owner))
    assert len(service_name(owner)) <= 63


def test_short_names_are_told_from_long_ones():
    assert job_name("tiny", Stage.TRAIN, 2) == "tiny-train-2"
    assert service_name("tiny") == "tiny-train"
    assert claim_name("tiny", UID, taken=False) == "tiny-work"
    assert claim_name("tiny", UID, taken=True) == f"tiny-{UID[:8]}-work"
    assert job_name("a.b", Stage.TRAIN, 1) != job_name("a-b", Stage.TRAIN, 1)
    assert job_name("x" * 62, Stage.TRAIN, 1) != job_name("x" * 63, Stage.TRAIN, 1)


def test_the_volume():
    world = World({"storage": {"size": "5Gi", "storageClassName": "fast", "accessMode": "ReadWriteMany"}})
    spec = FineTuneJobSpec.model_validate(world.job["spec"])
    made = claim(world.job, spec, "tiny-work", None, release=False)
    assert made["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "5Gi"}},
        "storageClassName": "fast",
    }
    # Somebody gave it more room meanwhile: a volume cannot shrink.
    made["spec"]["resources"]["requests"]["storage"] = "50Gi"
    again = claim(world.job, spec, "tiny-work", made, release=True)
    assert again["spec"]["resources"]["requests"]["storage"] == "50Gi"
    assert "ownerReferences" not in again["metadata"]


@pytest.mark.parametrize(
    ("storage", "disk"),
    [
        ({}, {"emptyDir": {}}),
        (
            {"size": "5Gi", "storageClassName": "fast"},
            {
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "resources": {"requests": {"storage": "5Gi"}},
                            "storageClassName": "fast",
                        }
                    }
                }
            },
        ),
    ],
)
def test_with_an_object_store_each_pod_has_a_disk_of_its_own(storage, disk):
    world = World({"storage": {"uri": "s3://bucket/work/", **storage}})
    job = stage_job(world.job, Planned(world.observed().spec), Stage.TRAIN, 1, None, SETTINGS, None)
    pod = job["spec"]["template"]["spec"]
    assert pod["volumes"][0] == {"name": "work", **disk}
    assert env(pod["containers"][0])["TUNESMITH_WORK_URI"] == f"s3://bucket/work/tiny-{UID[:8]}"
    assert "TUNESMITH_WORK_URI" not in env(built()[2])


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/work/tiny-01234567/artifact", "pvc://c/tiny-01234567/artifact"),
        ("file:///work/a/b", "pvc://c/a/b"),
        ("s3://bucket/a", "s3://bucket/a"),
        ("/elsewhere/a", "/elsewhere/a"),
        ("/workshop/a", "/workshop/a"),
    ],
)
def test_where_the_artifact_is(uri, expected):
    assert artifact_uri(uri, "c") == expected
    assert artifact_uri(uri, None) == uri


def test_the_status_names_the_checkpoints_where_all_pods_find_them() -> None:
    checkpoint = {"step": 4, "uri": "/work/ns/a/artifact-step-4", "digest": "sha256:1"}
    result = {"uri": "/work/ns/a/artifact", "digest": "sha256:0", "step": 6, "checkpoints": [checkpoint]}
    assert artifact_of(result, "c") == {
        "uri": artifact_uri("/work/ns/a/artifact", "c"),
        "digest": "sha256:0",
        "step": 6,
        "checkpoints": [{**checkpoint, "uri": artifact_uri("/work/ns/a/artifact-step-4", "c")}],
    }
