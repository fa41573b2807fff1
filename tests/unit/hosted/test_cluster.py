"""What the service makes on a cluster: a project's namespace, and how pods reach the store of files."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.manifests import load_documents
from tunesmith_api.manifests.files import Document
from tunesmith_hosted.config.cluster import ClusterSettings
from tunesmith_hosted.config.settings import Settings, SettingsError, load_settings
from tunesmith_hosted.fine_tuning.access import with_access
from tunesmith_hosted.fine_tuning.workspace import workspace_manifest
from tunesmith_hosted.reconcile.namespaces import namespace_objects, rights_objects, secret_objects

CLUSTER = ClusterSettings(system_namespace="system", role="role", service_account="hosted")
STORE = {"backend": "cluster", "files": "s3://bucket/files"}


def objects(cluster: ClusterSettings = CLUSTER, **limits: str) -> dict[str, dict[str, Any]]:
    """Return the objects of a namespace by their path's end."""
    both = (*rights_objects("team", "proj-1", cluster), *namespace_objects("team", limits, cluster))
    return {path.split("/team/")[-1]: body for path, body in both}


def test_the_service_gives_its_role_to_itself() -> None:
    binding = objects()["rolebindings/tunesmith-hosted"]
    assert binding["roleRef"]["name"] == "role"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "hosted", "namespace": "system"}]
    assert not [path for path in objects(ClusterSettings()) if "rolebindings" in path]


def test_a_projects_own_limits_go_before_the_usual_ones() -> None:
    cluster = ClusterSettings(quota={"requests.nvidia.com/gpu": "2", "pods": "50"})
    hard = objects(cluster, pods="5")["resourcequotas/project"]["spec"]["hard"]
    assert (hard["requests.nvidia.com/gpu"], hard["pods"], hard["services.loadbalancers"]) == ("2", "5", "0")


def test_pods_are_asked_by_nobody_of_another_project() -> None:
    assert objects()["networkpolicies/default-deny"]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    spec = objects()["networkpolicies/project"]["spec"]
    (rule,) = spec["ingress"]
    own, system = rule["from"]
    assert own == {"podSelector": {}}
    assert system["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "system"}


def test_pods_ask_each_other_the_operator_names_and_https() -> None:
    near, names, outside = objects()["networkpolicies/project"]["spec"]["egress"]
    assert [list(peer) for peer in near["to"]] == [["podSelector"], ["namespaceSelector", "podSelector"]]
    assert names == {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    assert outside["ports"] == [{"port": 443, "protocol": "TCP"}]
    assert outside["to"][0]["ipBlock"]["except"] == ["169.254.0.0/16"]


def test_secrets_are_copied_as_they_are_mounted(tmp_path: Path) -> None:
    for name, files in {"store": {"KEY": "one"}, "registry": {".dockerconfigjson": "{}"}}.items():
        real = tmp_path / name / "..2026_01_01"
        real.mkdir(parents=True)
        (tmp_path / name / "..data").symlink_to("..2026_01_01")
        for file, text in files.items():
            (real / file).write_text(text)
            (tmp_path / name / file).symlink_to(f"..data/{file}")
    registry, store = secret_objects(tmp_path)
    assert store["data"] == {"KEY": base64.b64encode(b"one").decode()} and store["type"] == "Opaque"
    assert registry["type"] == "kubernetes.io/dockerconfigjson"
    assert "secrets/store" in objects(ClusterSettings(secrets=tmp_path))


def job(settings: Settings) -> dict[str, Any]:
    """Return the spec of a job on files of the store, which the API's models take."""
    spec = {
        "model": {"uri": "hf://a/b"},
        "dataset": {
            "sources": [{"uri": "s3://bucket/files/f.jsonl"}],
            "validation": {"sources": [{"uri": "s3://bucket/files/v.jsonl"}]},
        },
        "output": {"uri": "s3://bucket/files/artifacts/a"},
        "storage": {"uri": "s3://elsewhere/work"},
    }
    metadata = {"name": "a", "namespace": "team"}
    manifest = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata, "spec": spec}
    written = with_access(manifest, settings)
    assert load_documents([Document(Path("a.json"), json.dumps(written))]).findings == []
    found: dict[str, Any] = written["spec"]
    return found


def test_pods_name_the_secret_beside_what_is_in_the_store() -> None:
    spec = job(Settings.model_validate({**STORE, "cluster": {"files_secret": "store"}}))
    reference = {"name": "store"}
    assert spec["dataset"]["sources"][0]["secretRef"] == reference
    assert spec["dataset"]["validation"]["sources"][0]["secretRef"] == reference
    assert spec["output"]["secretRef"] == reference
    assert "secretRef" not in spec["storage"] and "secretRef" not in spec["model"]
    assert "podTemplate" not in spec


def test_pods_have_the_identity_of_the_settings() -> None:
    cluster = {"account_annotations": {"client-id": "0"}, "pod_labels": {"use": "true"}}
    spec = job(Settings.model_validate({**STORE, "cluster": cluster}))
    assert spec["podTemplate"] == {"serviceAccountName": "project", "labels": {"use": "true"}}
    assert "serviceaccounts/project" in objects(ClusterSettings.model_validate(cluster))
    assert "serviceaccounts/project" not in objects()


def test_a_server_reads_its_artifact_in_the_same_way() -> None:
    settings = Settings.model_validate({**STORE, "cluster": {"files_secret": "store"}})
    manifest = workspace_manifest("m", "team", "s3://bucket/files/artifacts/a", None, awake=True)
    model = with_access(manifest, settings)["spec"]["model"]
    assert model == {"uri": "s3://bucket/files/artifacts/a", "secretRef": {"name": "store"}}


def test_one_machine_knows_nothing_of_it() -> None:
    settings = Settings.model_validate({"files": "s3://bucket/files", "cluster": {"files_secret": "store"}})
    assert "secretRef" not in job(settings)["output"]


def test_a_folder_is_refused_where_pods_read_files() -> None:
    settings = load_settings(None, {"TUNESMITH_HOSTED_BACKEND": "cluster"})  # enough to migrate
    with pytest.raises(SettingsError, match=r"hosted/files is a folder, which pods cannot read; write s3://"):
        settings.check_serving()
