"""What the chart renders for the hosted API, by the real helm."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from support.chart import CHART, NAMESPACE, HelmError, helm, kinds, named, render
from tunesmith_hosted.config.settings import Settings, load_settings

pytestmark = pytest.mark.integration

Object = dict[str, Any]
NAME = "tunesmith-hosted"
ROLE = f"{NAMESPACE}-{NAME}-project"
BASE = {
    "name": "tiny", "model": {"uri": "s3://bucket/tiny"}, "context_length": 1_000_000,
    "job": {"training": {"learningRate": 0.0001}}, "price": {"training": 2.5},
}  # fmt: skip
MINIMAL = {"enabled": True, "database": {"existingSecret": "database"}, "files": {"uri": "s3://bucket/files"}}
EVERYTHING = {
    **MINIMAL,
    "image": {"repository": "hosted", "digest": f"sha256:{'0' * 64}"},
    "publicUrl": "https://api.example.com",
    "files": {"uri": "s3://bucket/files", "existingSecret": "store"},
    "bases": [BASE],
    "quotas": {"storedBytes": "unlimited", "gpuHoursAMonth": 1.5, "jobsAtOnce": 2},
    "extraSettings": {"min_examples": 2},
    "projects": {
        "namespacePrefix": "ml-",
        "resourceQuota": {"pods": "50"},
        "podLabels": {"azure.workload.identity/use": "true"},
        "serviceAccountAnnotations": {"azure.workload.identity/client-id": "0"},
        "secrets": ["hub", "registry"],
        "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]}],
    },
    "ingress": {"enabled": True, "host": "api.example.com", "className": "nginx", "tlsSecret": "tls"},
    "gateway": {"enabled": True, "parentRefs": [{"name": "web"}], "hostnames": ["api.example.com"]},
    "autoscaling": {"enabled": True},
    "serviceAccount": {"annotations": {"azure.workload.identity/client-id": "1"}},
    "podLabels": {"azure.workload.identity/use": "true"},
    "networkPolicy": {"from": [{"namespaceSelector": {}}], "egress": [{"ports": [{"port": 9000}]}]},
}
TRIAL = {**MINIMAL, "database": {"trial": {"enabled": True}}, "replicas": 1}
RELEASE = {
    "crds": {"install": False}, "networkPolicy": {"enabled": True}, "serviceMonitor": {"enabled": True},
    "imagePullSecrets": ["registry"],
}  # fmt: skip
COMBINATIONS = {
    "minimal": {"hosted": MINIMAL, "crds": {"install": False}},
    "everything": {**RELEASE, "hosted": EVERYTHING},
    "trial": {"hosted": TRIAL, "crds": {"install": False}},
}


@pytest.fixture(scope="module")
def releases() -> dict[str, list[Object]]:
    return {name: render(values) for name, values in COMBINATIONS.items()}


@pytest.fixture(params=sorted(COMBINATIONS))
def objects(request: pytest.FixtureRequest, releases: dict[str, list[Object]]) -> list[Object]:
    return releases[request.param]


@pytest.fixture
def everything(releases: dict[str, list[Object]]) -> list[Object]:
    return releases["everything"]


def pod_of(objects: list[Object], kind: str = "Deployment", name: str = NAME) -> Object:
    found: Object = named(objects, kind, name)["spec"]["template"]["spec"]
    return found


def settings_of(objects: list[Object], folder: Path) -> Settings:
    """Return the settings as the service reads them."""
    file = folder / "hosted.yaml"
    file.write_text(named(objects, "ConfigMap", NAME)["data"]["hosted.yaml"])
    return load_settings(file, {"TUNESMITH_HOSTED_DATABASE": "postgresql://user@host/name"})


@pytest.mark.parametrize("name", sorted(COMBINATIONS))
def test_lint_finds_nothing(name: str) -> None:
    output = helm("lint", "--strict", str(CHART), "-f", "-", text=json.dumps(COMBINATIONS[name]))
    assert "0 chart(s) failed" in output
    assert "[WARNING]" not in output and "[ERROR]" not in output


def test_nothing_of_it_is_there_unless_it_is_enabled() -> None:
    assert not [obj for obj in render() if "hosted" in obj["metadata"]["name"]]


def test_names_are_taken_once_and_labelled(objects: list[Object]) -> None:
    keys = [(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in objects]
    assert len(set(keys)) == len(keys)
    for obj in objects:
        labels = obj["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        # Whatever selects the operator's pods must not find those of the service.
        assert (labels["app.kubernetes.io/name"] == "tunesmith") == ("hosted" not in obj["metadata"]["name"])


def test_the_service_understands_its_settings(releases: dict[str, list[Object]], tmp_path: Path) -> None:
    plain = settings_of(releases["minimal"], tmp_path)
    defaults = Settings(backend="cluster", files="s3://bucket/files")
    told = {"system_namespace": NAMESPACE, "service_account": NAME, "role": ROLE, "binding": NAME}
    assert plain.cluster.model_dump() == {**defaults.cluster.model_dump(), **told}
    assert plain.drain_seconds == 100
    own = {name: getattr(defaults, name) for name in ("cluster", "database", "drain_seconds")}
    changed = plain.model_copy(update=own)
    assert changed == defaults
    full = settings_of(releases["everything"], tmp_path)
    assert (full.files, full.public_url, full.min_examples) == ("s3://bucket/files", "https://api.example.com", 2)
    assert full.quotas.model_dump() == {
        "jobs_at_once": 2, "gpu_hours_a_month": 1.5, "stored_bytes": None, "requests_a_minute": 600,
        "tokens_a_minute": 200000,
    }  # fmt: skip
    (base,) = full.bases
    assert (base.context_length, base.job, base.price) == (1_000_000, BASE["job"], {"training": 2.5})
    assert full.cluster.files_secret == "store" and full.cluster.quota == {"pods": "50"}
    assert full.namespace_prefix == "ml-" and len(full.cluster.ingress) == 1


def test_a_change_of_the_settings_replaces_the_pods() -> None:
    def checksum(seconds: int) -> str:
        objects = render({"hosted": {**MINIMAL, "idleSeconds": seconds}})
        metadata = named(objects, "Deployment", NAME)["spec"]["template"]["metadata"]
        return str(metadata["annotations"]["checksum/settings"])

    assert checksum(900) == checksum(900) != checksum(901)


def test_the_pods_are_restricted_bounded_and_probed(objects: list[Object]) -> None:
    for obj in objects:
        if obj["kind"] not in ("Deployment", "StatefulSet", "Job") or "hosted" not in obj["metadata"]["name"]:
            continue
        pod = obj["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        # Only the service itself asks the API server.
        assert pod["automountServiceAccountToken"] == (obj["kind"] == "Deployment")
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            assert re.search(r"[:@][^/]+$", container["image"]) and not container["image"].endswith(":latest")
    (container,) = pod_of(objects)["containers"]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()


def test_no_secret_is_in_what_is_rendered(everything: list[Object]) -> None:
    assert "Secret" not in kinds(everything)
    database = {"secretKeyRef": {"name": "database", "key": "url"}}
    for pod in (pod_of(everything), pod_of(everything, "Job", f"{NAME}-migrate")):
        (variable,) = [item for item in pod["containers"][0]["env"] if item["name"] == "TUNESMITH_HOSTED_DATABASE"]
        assert variable["valueFrom"] == database


def test_secrets_that_projects_get_are_mounted(everything: list[Object]) -> None:
    pod = pod_of(everything)
    paths = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    names = {volume["secret"]["secretName"]: volume["name"] for volume in pod["volumes"] if "secret" in volume}
    assert {name: paths[volume] for name, volume in names.items()} == {
        name: f"/etc/tunesmith/secrets/{name}" for name in ("store", "hub", "registry")
    }


def test_people_sign_in_with_a_secret_that_is_mounted() -> None:
    provider = {"id": "entra", "issuer": "https://login.example.com", "client_id": "0"}
    grants = [{"group": "ml", "project": "acme/research"}]
    sign_in = {"providers": [provider], "grants": grants, "existingSecret": "oidc"}
    objects = render({"hosted": {**MINIMAL, "signIn": sign_in}, "crds": {"install": False}})
    settings = json.loads(named(objects, "ConfigMap", NAME)["data"]["hosted.yaml"])
    assert settings["sign_in"] == {"providers": [provider], "grants": grants}
    pod = pod_of(objects)
    assert {"name": "sign-in", "secret": {"secretName": "oidc"}} in pod["volumes"]
    paths = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert paths["sign-in"] == "/etc/tunesmith/sign-in"


def test_tables_are_migrated_before_the_pods_start(releases: dict[str, list[Object]]) -> None:
    job = named(releases["minimal"], "Job", f"{NAME}-migrate")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["args"] == ["migrate"]
    # At the first installation nothing of the release is there yet, but what the hook itself brings.
    assert "serviceAccountName" not in pod
    assert [volume for volume in pod["volumes"] if "emptyDir" not in volume] == []
    assert "initContainers" not in pod_of(releases["minimal"])


def test_a_trial_brings_its_database(releases: dict[str, list[Object]]) -> None:
    objects = releases["trial"]
    assert "Job" not in kinds(objects)
    waiting, migrating = pod_of(objects)["initContainers"]
    assert waiting["command"][-1].startswith(f"until pg_isready -q -h {NAME}-database ")
    assert migrating["args"] == ["migrate"]
    secret = named(objects, "Secret", f"{NAME}-database")["stringData"]
    assert secret["url"] == f"postgresql://tunesmith:{secret['password']}@{NAME}-database:5432/tunesmith"
    service, pods = named(objects, "Service", f"{NAME}-database"), named(objects, "StatefulSet", f"{NAME}-database")
    assert service["spec"]["selector"].items() <= pods["spec"]["template"]["metadata"]["labels"].items()


def test_selectors_select_the_pods(everything: list[Object]) -> None:
    labels = named(everything, "Deployment", NAME)["spec"]["template"]["metadata"]["labels"]
    operator = named(everything, "Deployment", "tunesmith")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        named(everything, "Deployment", NAME)["spec"]["selector"]["matchLabels"],
        named(everything, "Service", NAME)["spec"]["selector"],
        named(everything, "PodDisruptionBudget", NAME)["spec"]["selector"]["matchLabels"],
        named(everything, "NetworkPolicy", NAME)["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not selector.items() <= operator.items()
    monitor = named(everything, "ServiceMonitor", NAME)["spec"]
    found = named(everything, "Service", NAME)
    assert monitor["selector"]["matchLabels"].items() <= found["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == found["spec"]["ports"][0]["name"]
    others = [obj for obj in everything if obj["kind"] == "Service" and obj["metadata"]["name"] != NAME]
    for other in others:
        assert not monitor["selector"]["matchLabels"].items() <= other["metadata"]["labels"].items()


def test_it_is_reached_by_ingress_or_gateway(everything: list[Object]) -> None:
    (rule,) = named(everything, "Ingress", NAME)["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": NAME, "port": {"number": 80}}
    (rule,) = named(everything, "HTTPRoute", NAME)["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": NAME, "port": 80}]
    assert rule["timeouts"] == {"request": "1h"}


def test_the_autoscaler_alone_says_how_many(releases: dict[str, list[Object]]) -> None:
    scaler = named(releases["everything"], "HorizontalPodAutoscaler", NAME)["spec"]
    assert (scaler["minReplicas"], scaler["scaleTargetRef"]["name"]) == (2, NAME)
    assert "replicas" not in named(releases["everything"], "Deployment", NAME)["spec"]
    assert named(releases["minimal"], "Deployment", NAME)["spec"]["replicas"] == 2
    assert "HorizontalPodAutoscaler" not in kinds(releases["minimal"])
    assert not [obj for obj in releases["trial"] if obj["kind"] == "PodDisruptionBudget" and "hosted" in str(obj)]


def test_its_rights_are_by_name_where_they_can_be(everything: list[Object]) -> None:
    rules = named(everything, "ClusterRole", f"{NAMESPACE}-{NAME}")["rules"]
    assert {
        resource: (rule["verbs"], rule.get("resourceNames")) for rule in rules for resource in rule["resources"]
    } == {
        "namespaces": (["create", "patch", "delete"], None),
        "rolebindings": (["create", "patch"], [NAME]),
        "clusterroles": (["bind"], [ROLE]),
    }
    for rule in named(everything, "ClusterRole", ROLE)["rules"]:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        if rule["apiGroups"] != ["tunesmith.dev"]:
            assert rule["verbs"] == ["create", "patch"] and rule["resourceNames"]
    bound = [obj["roleRef"]["name"] for obj in everything if obj["kind"].endswith("Binding") and "roleRef" in obj]
    assert ROLE not in bound  # the service binds it, a namespace at a time


def test_it_may_write_secrets_only_where_there_are_some(releases: dict[str, list[Object]]) -> None:
    def resources(name: str) -> set[str]:
        rules = named(releases[name], "ClusterRole", ROLE)["rules"]
        return {resource for rule in rules for resource in rule["resources"]}

    assert resources("everything") - resources("minimal") == {"secrets", "serviceaccounts"}


def test_the_admission_policy_is_bound_and_speaks_of_the_service(everything: list[Object]) -> None:
    policy = named(everything, "ValidatingAdmissionPolicy")
    binding = named(everything, "ValidatingAdmissionPolicyBinding")["spec"]
    assert binding == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}
    account = named(everything, "ServiceAccount", NAME)["metadata"]
    assert (
        f"'system:serviceaccount:{NAMESPACE}:{account['name']}'" in policy["spec"]["matchConditions"][0]["expression"]
    )
    assert "startsWith('ml-')" in policy["spec"]["validations"][0]["expression"]


def test_two_releases_do_not_meet(releases: dict[str, list[Object]]) -> None:
    other = render({"hosted": MINIMAL, "crds": {"install": False}}, release="second")
    names = [
        {(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in objects}
        for objects in (releases["minimal"], other)
    ]
    assert not names[0] & names[1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"database": {}}, "hosted.database.existingSecret: name a Secret"),
        ({"database": {"existingSecret": "a", "trial": {"enabled": True}}}, "either existingSecret or trial"),
        ({"files": {}}, "hosted.files.uri: write where files are stored"),
        ({"files": {"uri": "/files"}}, "/hosted/files/uri.*pattern"),
        ({"ingress": {"enabled": True}}, "hosted.ingress.host: write the name"),
        ({"gateway": {"enabled": True}}, "hosted.gateway.parentRefs: name the Gateway"),
        ({"bases": [{"name": "a"}]}, "/hosted/bases/0.*model"),
        ({"bases": [{"name": "a", "model": {"uri": "hf://a/b"}, "prices": {}}]}, "prices.*not allowed"),
        ({"projects": {"namespacePrefix": "Ml"}}, "/hosted/projects/namespacePrefix.*pattern"),
        ({"quotas": {"jobsAtOnce": "many"}}, "/hosted/quotas/jobsAtOnce"),
        ({"extraSettings": {"backend": "local"}}, "/hosted/extraSettings"),
        (
            {"signIn": {"providers": [{"id": "a", "issuer": "b", "client_id": "c", "client_secret": "d"}]}},
            "/hosted/signIn",
        ),
        ({"database": {"existingSecret": "", "trial": {"enabled": True, "image": "postgres:latest"}}}, "trial/image"),
    ],
)
def test_bad_values_are_refused_with_their_place(values: Object, message: str) -> None:
    with pytest.raises(HelmError) as caught:
        render({"hosted": {**MINIMAL, **values}})
    assert re.search(message, str(caught.value).replace("'", ""), re.DOTALL), str(caught.value)


def test_watching_some_namespaces_is_refused_with_it() -> None:
    with pytest.raises(HelmError, match="watchNamespaces: must be empty with hosted.enabled"):
        render({"hosted": MINIMAL, "watchNamespaces": ["team-a"]})


def test_an_older_kubernetes_is_refused() -> None:
    values = json.dumps({"hosted": MINIMAL})
    with pytest.raises(HelmError, match=r"hosted.enabled: needs Kubernetes 1\.30"):
        helm("template", "tunesmith", str(CHART), "--kube-version", "1.29.3", "-f", "-", text=values)


def test_the_notes_say_how_to_get_a_key() -> None:
    values = json.dumps({"hosted": EVERYTHING})
    text = helm("install", "tunesmith", str(CHART), "--dry-run=client", "-f", "-", text=values)
    notes = text.partition("NOTES:")[2]
    assert "https://api.example.com/v1" in notes and "keys create ORGANIZATION/PROJECT" in notes
