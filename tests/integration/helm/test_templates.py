"""What the chart renders, by the real helm."""

import json
import re
from typing import Any

import pytest
import yaml

from support.chart import CHART, CLUSTER_WIDE, HelmError, helm, kinds, named, render
from tunesmith_operator.config.settings import OperatorSettings

pytestmark = pytest.mark.integration

Object = dict[str, Any]
NAMESPACED = {"watchNamespaces": ["team-a", "team-b"], "crds": {"install": False}, "rbac": {"aggregate": False}}
EVERYTHING = {
    "registry": "example.azurecr.io/ml/",
    "servingImages": {"cuda": {"repository": "tunesmith-serving-cuda"}},
    "image": {"digest": f"sha256:{'0' * 64}"},
    "imagePullSecrets": ["registry"],
    "replicas": 3,
    "networkPolicy": {"enabled": True, "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
    "grafanaDashboard": {"enabled": True},
    "priorityClassName": "system-cluster-critical",
    "commonLabels": {"team": "ml"},
    "podLabels": {"cost": "shared"},
    "podAnnotations": {"a": "b"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "CriticalAddonsOnly", "operator": "Exists"}],
    "serviceAccount": {"annotations": {"azure.workload.identity/client-id": "0"}},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "machines": [
        {
            "name": "a100",
            "gpu": "NVIDIA-A100-SXM4-80GB",
            "gpus": 1,
            "cpus": 24,
            "memory": "200Gi",
            "pricePerHour": 3.67,
            "nodeSelector": {"kubernetes.azure.com/agentpool": "a100"},
            "tolerations": [{"key": "team", "value": "search"}],
        },
        {"name": "cpu", "cpus": "7500m", "memory": "28Gi"},
    ],
    "hubEndpoint": "https://hub.example.com",
}
SINGLE = {"replicas": 1, "leaderElection": {"enabled": False}, "progress": {"enabled": False}}
COMBINATIONS = {"defaults": {}, "namespaced": NAMESPACED, "everything": EVERYTHING, "single": SINGLE}


@pytest.fixture(scope="module")
def releases() -> dict[str, list[Object]]:
    return {name: render(values) for name, values in COMBINATIONS.items()}


@pytest.fixture(params=sorted(COMBINATIONS))
def objects(request: pytest.FixtureRequest, releases: dict[str, list[Object]]) -> list[Object]:
    return releases[request.param]


@pytest.mark.parametrize("name", sorted(COMBINATIONS))
def test_lint_finds_nothing(name: str) -> None:
    output = helm("lint", "--strict", str(CHART), "-f", "-", text=json.dumps(COMBINATIONS[name]))
    assert "0 chart(s) failed" in output
    assert "[WARNING]" not in output and "[ERROR]" not in output


def test_every_object_is_labelled_and_placed_once(objects: list[Object]) -> None:
    seen = set()
    for obj in objects:
        meta = obj["metadata"]
        key = (obj["kind"], meta.get("namespace"), meta["name"])
        assert key not in seen
        seen.add(key)
        assert meta["labels"]["app.kubernetes.io/name"] == "tunesmith", key
        assert meta["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert ("namespace" in meta) == (obj["kind"] not in CLUSTER_WIDE), key


def test_the_operator_understands_what_it_is_told(objects: list[Object]) -> None:
    container = named(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    told = {entry["name"]: entry.get("value", "x") for entry in container["env"]}
    known = {f"TUNESMITH_{name.upper()}" for name in OperatorSettings.model_fields}
    assert {name for name in told if name.startswith("TUNESMITH_")} <= known
    settings = OperatorSettings.from_environment(told)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert settings.health_port == ports["metrics"]
    assert settings.progress_port == ports.get("progress", 0)
    if settings.progress_port:
        name, namespace = settings.progress_url.removeprefix("https://").split(":")[0].split(".")[:2]
        service = named(objects, "Service", name)
        assert service["metadata"]["namespace"] == namespace
        assert service["spec"]["ports"][0]["port"] == settings.progress_port
        assert settings.progress_url.endswith(f":{settings.progress_port}")
    else:
        assert not settings.progress_url


def test_the_settings_follow_the_values(releases: dict[str, list[Object]]) -> None:
    def settings(name: str) -> OperatorSettings:
        container = named(releases[name], "Deployment")["spec"]["template"]["spec"]["containers"][0]
        return OperatorSettings.from_environment({entry["name"]: entry.get("value", "x") for entry in container["env"]})

    assert settings("defaults").namespaces == ()
    assert settings("namespaced").namespaces == ("team-a", "team-b")
    assert settings("defaults").leader_election and not settings("single").leader_election
    assert settings("defaults").trainer_image == OperatorSettings().trainer_image
    assert settings("defaults").serving_image == OperatorSettings().serving_image
    assert settings("defaults").serving_images == {}
    image = "example.azurecr.io/ml/tunesmith-serving-cuda:0.1.0"
    assert settings("everything").serving_images == {"cuda": image}
    assert settings("everything").trainer_image == "example.azurecr.io/ml/tunesmith-trainer:0.1.0"
    assert settings("everything").image_pull_secrets == ("registry",)
    assert (settings("defaults").machines, settings("defaults").hub_endpoint) == ((), "")
    first, second = settings("everything").machines
    assert (first.name, first.memory, first.price_per_hour) == ("a100", 200 * 2**30, 3.67)
    assert first.node_selector == {"kubernetes.azure.com/agentpool": "a100"}
    assert (second.cpus, second.gpus) == (7.5, 0)
    assert settings("everything").hub_endpoint == "https://hub.example.com"


def test_a_digest_comes_before_a_tag(releases: dict[str, list[Object]]) -> None:
    pod = named(releases["everything"], "Deployment")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == f"example.azurecr.io/ml/tunesmith-operator@sha256:{'0' * 64}"


def test_two_replicas_elect_a_leader_and_survive_a_drain(releases: dict[str, list[Object]]) -> None:
    deployment = named(releases["defaults"], "Deployment")["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert named(releases["defaults"], "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert "PodDisruptionBudget" not in kinds(releases["single"])


def test_selectors_select_the_pods(objects: list[Object]) -> None:
    deployment = named(objects, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    selectors = [deployment["selector"]["matchLabels"]]
    for obj in objects:
        if obj["kind"] == "Service":
            selectors.append(obj["spec"]["selector"])
        if obj["kind"] == "PodDisruptionBudget":
            selectors.append(obj["spec"]["selector"]["matchLabels"])
        if obj["kind"] == "NetworkPolicy":
            selectors.append(obj["spec"]["podSelector"]["matchLabels"])
    for selector in selectors:
        assert selector.items() <= labels.items()
    assert "app.kubernetes.io/version" not in deployment["selector"]["matchLabels"]


def test_the_crds_are_those_of_the_repository_and_stay(releases: dict[str, list[Object]]) -> None:
    rendered = [obj for obj in releases["defaults"] if obj["kind"] == "CustomResourceDefinition"]
    assert len(rendered) == 2
    for crd in rendered:
        written = yaml.safe_load((CHART.parents[1] / "crds" / f"{crd['metadata']['name']}.yaml").read_text())
        assert crd["spec"] == written["spec"]
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert "CustomResourceDefinition" not in kinds(releases["namespaced"])
    (crd, _) = [obj for obj in render({"crds": {"keep": False}}) if obj["kind"] == "CustomResourceDefinition"]
    assert "annotations" not in crd["metadata"]


def test_the_scrapers_find_the_services(releases: dict[str, list[Object]]) -> None:
    objects = releases["everything"]
    monitor = named(objects, "ServiceMonitor", "tunesmith")
    services = [obj for obj in objects if obj["kind"] == "Service"]
    chosen = [
        service
        for service in services
        if monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ]
    assert [service["spec"]["ports"][0]["name"] for service in chosen] == ["metrics"]
    assert named(objects, "ServiceMonitor", "tunesmith-servers")["spec"]["namespaceSelector"] == {"any": True}
    (limited,) = [
        obj
        for obj in render({**NAMESPACED, "serviceMonitor": {"enabled": True}})
        if obj["metadata"]["name"] == "tunesmith-servers"
    ]
    assert limited["spec"]["namespaceSelector"] == {"matchNames": ["team-a", "team-b"]}


def test_alerts_and_dashboard_are_whole(releases: dict[str, list[Object]]) -> None:
    groups = named(releases["everything"], "PrometheusRule")["spec"]["groups"]
    assert groups == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    dashboard = named(releases["everything"], "ConfigMap")["data"]["tunesmith.json"]
    assert json.loads(dashboard) == json.loads((CHART / "files" / "dashboard.json").read_text())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replicas": "2"}, "/replicas.*integer"),
        ({"replica": 2}, "replica.*not allowed"),
        ({"replicas": 2, "leaderElection": {"enabled": False}}, "leaderElection.enabled must be true"),
        ({"image": {"tag": "latest"}}, "/image/tag"),
        ({"image": {"digest": "sha256:1"}}, "/image/digest.*pattern"),
        ({"watchNamespaces": ["Team_A"]}, "/watchNamespaces/0.*pattern"),
        ({"watchNamespaces": "team-a"}, "/watchNamespaces.*array"),
        ({"log": {"level": "trace"}}, "/log/level.*must be one of"),
        ({"workers": 0}, "/workers.*minimum"),
        ({"progress": {"port": 443}}, "/progress/port.*minimum"),
        ({"imagePullPolicy": "Sometimes"}, "/imagePullPolicy"),
        ({"resources": {"limit": {}}}, "limit.*not allowed"),
        ({"commonLabels": {"a": 1}}, "/commonLabels/a.*string"),
        ({"machines": [{"name": "a", "cpus": 4}]}, "/machines/0.*memory"),
        ({"machines": [{"name": "a", "cpus": 4, "memory": "64GB"}]}, "/machines/0/memory.*pattern"),
        ({"machines": [{"name": "auto", "cpus": 4, "memory": "64Gi"}]}, "/machines/0/name"),
        ({"machines": [{"name": "a", "cpus": 4, "memory": "64Gi", "price": 3}]}, "price.*not allowed"),
        ({"hubEndpoint": "hub.example.com"}, "/hubEndpoint.*pattern"),
    ],
)
def test_bad_values_are_refused_with_their_place(values: Object, message: str) -> None:
    with pytest.raises(HelmError) as caught:
        render(values)
    assert re.search(message, str(caught.value).replace("'", ""), re.DOTALL), str(caught.value)
