"""What checkov and kube-linter look for, and what the operator may do."""

from typing import Any

import pytest

from support.chart import CLUSTER_WIDE, kinds, named, render

pytestmark = pytest.mark.integration

Object = dict[str, Any]


def rules(objects: list[Object], kind: str, name: str) -> list[Object]:
    return named([obj for obj in objects if obj["metadata"]["name"] == name], kind)["rules"]


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return render()


@pytest.fixture(scope="module")
def namespaced() -> list[Object]:
    return render({
        "watchNamespaces": ["a", "b"], "progress": {"enabled": False}, "crds": {"install": False},
        "rbac": {"aggregate": False},
    })  # fmt: skip


def test_the_pod_is_restricted(objects: list[Object]) -> None:
    pod = named(objects, "Deployment")["spec"]["template"]["spec"]
    context = pod["securityContext"]
    assert context["runAsNonRoot"] and context["runAsUser"] == context["runAsGroup"] == 65532
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(pod)
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert [volume for volume in pod["volumes"] if "emptyDir" not in volume] == []
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]


def test_the_container_is_bounded_and_probed(objects: list[Object]) -> None:
    (container,) = named(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
    assert not container["image"].endswith(":latest") and ":" in container["image"]
    assert not any("secret" in entry["name"].lower() and "value" not in entry for entry in container["env"])


def test_the_token_is_mounted_where_it_is_asked_for(objects: list[Object]) -> None:
    assert named(objects, "ServiceAccount")["automountServiceAccountToken"] is False
    pod = named(objects, "Deployment")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is True
    assert pod["serviceAccountName"] == named(objects, "ServiceAccount")["metadata"]["name"] != "default"


@pytest.mark.parametrize("release", ["objects", "namespaced"])
def test_no_rule_is_wide(release: str, request: pytest.FixtureRequest) -> None:
    found = [obj for obj in request.getfixturevalue(release) if obj["kind"] in {"Role", "ClusterRole"}]
    assert found
    for role in found:
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], role["metadata"]["name"]
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
            assert not {"pods/exec", "pods/attach", "nodes", "roles", "clusterroles"} & set(rule["resources"])


@pytest.mark.parametrize("release", ["objects", "namespaced"])
def test_secrets_are_the_one_of_its_own(release: str, request: pytest.FixtureRequest) -> None:
    for role in request.getfixturevalue(release):
        if role["kind"] not in {"Role", "ClusterRole"}:
            continue
        for rule in role["rules"]:
            if "secrets" in rule["resources"]:
                assert role["kind"] == "Role" and role["metadata"]["namespace"] == "tunesmith-system"
                assert rule["verbs"] == ["create"] or rule["resourceNames"] == ["tunesmith-progress"]
            if "configmaps" in rule["resources"]:
                # Those of others can neither be found nor removed: whoever asks for one must know its name.
                assert set(rule["verbs"]) == {"create", "get", "patch"}


def test_namespaced_means_roles_only(namespaced: list[Object]) -> None:
    assert not kinds(namespaced) & CLUSTER_WIDE
    roles = {obj["metadata"]["namespace"] for obj in namespaced if obj["kind"] == "Role"}
    assert roles == {"a", "b", "tunesmith-system"}
    assert rules(namespaced, "Role", "tunesmith-own")


def test_progress_adds_the_one_right_that_a_role_cannot_give() -> None:
    objects = render({"watchNamespaces": ["a"], "crds": {"install": False}, "rbac": {"aggregate": False}})
    assert kinds(objects) & CLUSTER_WIDE == {"ClusterRoleBinding"}
    assert named(objects, "ClusterRoleBinding")["roleRef"]["name"] == "system:auth-delegator"


def test_people_may_not_write_status(objects: list[Object]) -> None:
    for role in objects:
        if any("aggregate-to" in label for label in role["metadata"]["labels"]):
            resources = [rule["resources"] for rule in role["rules"]]
            assert resources == [["finetunejobs", "inferenceworkspaces"], ["inferenceworkspaces/scale"]]


def test_two_releases_do_not_meet(objects: list[Object]) -> None:
    other = render({"crds": {"install": False}}, release="second")
    mine = {(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in objects}
    theirs = {(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in other}
    assert len(mine) == len(objects) > 0
    assert len(theirs) == len(other) > 0
    assert not mine & theirs
