"""The service account of the chart: it works in the namespaces that it has made, and nowhere else."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.client import Cluster
from cluster.requests import ApiError
from support.hosted_cluster import Rights, rights
from support.operator import wait_until
from tunesmith_hosted.config.cluster import ClusterSettings
from tunesmith_hosted.reconcile.namespaces import rights_objects

pytestmark = pytest.mark.integration

APPLY = "application/apply-patch+yaml"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
LABEL = {"app.kubernetes.io/managed-by": "tunesmith-hosted"}


@pytest.fixture(scope="module")
def given(api_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rights]:
    with rights(api_cluster, tmp_path_factory.mktemp("rights")) as found:
        yield found


@pytest.fixture(scope="module")
def own(api_cluster: Cluster, given: Rights) -> str:
    """A namespace that the service account has made, with its role in it."""
    name = f"{given.prefix}own"
    for path, body in rights_objects(name, "proj-1", ClusterSettings.model_validate(given.settings)):
        query = {"fieldManager": "tunesmith-hosted", "force": "true"}
        given.http().request("PATCH", path, json.dumps(body).encode(), APPLY, **query)
    jobs = f"/apis/tunesmith.dev/v1alpha1/namespaces/{name}/finetunejobs"
    wait_until("the binding", lambda: answers(given, jobs))
    return name


def answers(given: Rights, path: str) -> bool:
    try:
        given.http().request("GET", path)
    except ApiError:
        return False
    return True


def refused(given: Rights, method: str, path: str, body: Any = None, kind: str = "application/json") -> str:
    """Send a request that is to be refused, and return why it is."""
    with pytest.raises(ApiError) as caught:
        given.http().request(method, path, body, kind)
    assert caught.value.status == 403, caught.value
    return caught.value.message


def namespace(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def binding(given: Rights, name: str, **changes: Any) -> dict[str, Any]:
    """Return the service's own binding, or another one."""
    cluster = ClusterSettings.model_validate(given.settings)
    return {**rights_objects(name, "proj-1", cluster)[1][1], **changes}


def binding_path(given: Rights, namespace: str) -> str:
    return f"{RBAC}/namespaces/{namespace}/rolebindings/{given.settings['binding']}"


def test_it_makes_namespaces_with_its_label_and_prefix_alone(given: Rights) -> None:
    name = f"{given.prefix}other"
    assert "only in namespaces that it has made" in refused(given, "POST", "/api/v1/namespaces", namespace(name, {}))
    assert "only in namespaces" in refused(given, "POST", "/api/v1/namespaces", namespace("elsewhere", LABEL))


def test_it_does_not_take_the_namespaces_of_others(given: Rights, api_cluster: Cluster) -> None:
    name = f"{given.prefix}theirs"
    api_cluster.create(namespace(name, {}))
    merge = b'{"metadata": {"labels": {"app.kubernetes.io/managed-by": "tunesmith-hosted"}}}'
    for taken in ("default", name):
        path = f"/api/v1/namespaces/{taken}"
        assert "only in namespaces" in refused(given, "PATCH", path, merge, "application/merge-patch+json")
    assert "only in namespaces" in refused(given, "DELETE", f"/api/v1/namespaces/{name}")
    refused(given, "GET", "/api/v1/namespaces")


def test_it_does_not_let_its_own_go(given: Rights, own: str) -> None:
    merge = b'{"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}'
    refused(given, "PATCH", f"/api/v1/namespaces/{own}", merge, "application/merge-patch+json")


def test_it_gives_itself_its_role_only_there(given: Rights, own: str) -> None:
    for elsewhere in ("default", "kube-system"):
        body = json.dumps(binding(given, elsewhere)).encode()
        path = f"{binding_path(given, elsewhere)}?fieldManager=a"
        assert "only in namespaces" in refused(given, "PATCH", path, body, APPLY)
    admin = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    body = json.dumps(binding(given, own, roleRef=admin)).encode()
    refused(given, "PATCH", f"{binding_path(given, own)}?fieldManager=a&force=true", body, APPLY)
    other = [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]
    body = json.dumps(binding(given, own, subjects=other)).encode()
    path = f"{binding_path(given, own)}?fieldManager=a&force=true"
    assert "to itself alone" in refused(given, "PATCH", path, body, APPLY)
    body = {**binding(given, own), "metadata": {"name": "second"}}
    refused(given, "POST", f"{RBAC}/namespaces/{own}/rolebindings", body)


def test_it_reads_nothing_of_others(given: Rights, own: str) -> None:
    for path in (
        "/apis/tunesmith.dev/v1alpha1/finetunejobs",
        "/apis/tunesmith.dev/v1alpha1/namespaces/default/finetunejobs",
        "/apis/tunesmith.dev/v1alpha1/namespaces/default/inferenceworkspaces",
        f"/api/v1/namespaces/{own}/secrets",
        f"/api/v1/namespaces/{own}/secrets/store",
        f"/api/v1/namespaces/{own}/pods",
        "/api/v1/nodes",
    ):
        refused(given, "GET", path)
    assert given.http().request("GET", f"/apis/tunesmith.dev/v1alpha1/namespaces/{own}/finetunejobs")["items"] == []
