"""What the API server itself refuses, and with which words: the files that `tunesmith validate` is tested with."""

import re
from pathlib import Path

import pytest
import yaml

from cluster.client import Cluster
from cluster.requests import ApiError
from support.manifests import job
from tunesmith_api.manifests import load_manifests

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).parents[2] / "data" / "bad-manifests"
GROUP = "tunesmith.dev/v1alpha1"


def findings() -> dict[str, str]:
    """Return the finding about each file that is one document of ours, well-formed and complete in itself."""
    found = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        try:
            documents = list(yaml.safe_load_all(path.read_bytes()))
        except (yaml.YAMLError, ValueError):
            continue
        if len(documents) != 1 or not isinstance(documents[0], dict) or documents[0].get("apiVersion") != GROUP:
            continue
        (finding,) = load_manifests([path]).findings
        found[path.name] = finding
    return found


FINDINGS = findings()
# Slips that only a reader of files can see: what the API server gets is already something else.
INVISIBLE = {
    "duplicate-key.yaml": "YAML has kept one of them",
    "infinite-gate.yaml": "JSON has no infinite number",
    "empty-field.yaml": "null is taken for a field that is not there",
}
# Refused by kubectl or the server before they reach our schema.
BEFORE = {"alias-bomb.yaml", "label-not-text.yaml", "no-kind.yaml", "no-name.yaml", "wrong-kind.yaml"}
REFUSED = sorted(FINDINGS.keys() - INVISIBLE.keys() - BEFORE)


def test_there_are_enough_of_both_kinds():
    kinds = [yaml.safe_load((FOLDER / name).read_bytes())["kind"] for name in REFUSED]
    assert kinds.count("FineTuneJob") >= 30
    assert kinds.count("InferenceWorkspace") >= 15


@pytest.mark.parametrize("name", sorted(BEFORE))
def test_what_is_no_object_of_ours_does_not_get_that_far(cluster: Cluster, name: str):
    answer = create(cluster, name)
    assert answer.startswith(("error:", "The "))


@pytest.mark.parametrize("name", REFUSED)
def test_the_api_server_refuses_it_and_names_the_field(cluster: Cluster, name: str):
    finding = FINDINGS[name]
    answer = create(cluster, name)
    assert "created" not in answer
    assert re.search(r"invalid|unknown field|cannot unmarshal|strict decoding", answer), answer
    # A rule over several fields has the same words here and there; of a single field the server says its own.
    is_rule = f"{finding.message}; {finding.remedy}" in _rules()
    expected = f"{finding.message}; {finding.remedy}" if is_rule else finding.field.split(".")[-1].split("[")[0]
    assert expected in answer


def create(cluster: Cluster, name: str) -> str:
    """Return what kubectl says to a file; nothing is kept of it."""
    return cluster.run("create", "--dry-run=server", "--validate=strict", "-f", str(FOLDER / name), check=False)


def _rules() -> set[str]:
    """Return the messages of all rules of the CRDs."""

    def of(node: object) -> set[str]:
        if isinstance(node, list):
            return set().union(*map(of, node)) if node else set()
        if not isinstance(node, dict):
            return set()
        own = {rule["message"] for rule in node.get("x-kubernetes-validations", ())}
        return own.union(*map(of, node.values()))

    return of([yaml.safe_load(path.read_text()) for path in (FOLDER.parents[2] / "crds").glob("*.yaml")])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"training": {"epochs": 7}}, "training"),
        ({"model": {"uri": "hf://a/b", "scratch": None}}, "model"),
        ({"resources": {"gpusPerNode": 1}}, "resources"),
        ({"scheduling": {"maxRestarts": 9}}, "scheduling"),
        ({"podTemplate": {"labels": {"a": "b"}}}, "podTemplate"),
        ({"storage": {"size": "30Gi"}}, "storage"),
    ],
)
def test_a_job_does_not_change(cluster: Cluster, namespace: str, change: dict, field: str):
    cluster.create(job(), namespace)
    with pytest.raises(ApiError) as refused:
        cluster.patch("FineTuneJob", "tiny", {"spec": change}, namespace)
    words = f"{field} does not change once the job is created; write a new FineTuneJob under another name"
    assert words in refused.value.message


@pytest.mark.parametrize("field", ["distributed", "adapter"])
def test_nor_is_a_field_taken_away(cluster: Cluster, namespace: str, field: str):
    distributed = {"strategy": "zero2"}
    cluster.create(job(method="lora", adapter={"rank": 4}, distributed=distributed), namespace)
    with pytest.raises(ApiError, match=f"{field} does not change"):
        cluster.patch("FineTuneJob", "tiny", {"spec": {field: None}}, namespace)


def test_what_can_change_does(cluster: Cluster, namespace: str):
    cluster.create(job(), namespace)
    for change in ({"suspend": True}, {"ttlSecondsAfterFinished": 5}, {"suspend": None}):
        cluster.patch("FineTuneJob", "tiny", {"spec": change}, namespace)
    spec = cluster.get("FineTuneJob", "tiny", namespace)["spec"]
    assert (spec["suspend"], spec["ttlSecondsAfterFinished"]) == (False, 5)


PUBLISH_INPUTS = [
    {"evaluation": {"gates": [{"metric": "evalLoss", "max": 9}]}},
    {"export": {"parity": {"maxLogitDifference": 1}}},
    {"output": {"uri": "s3://b/a"}},
    {"output": {"uri": "s3://b/c"}},
    {"output": None},
    {"evaluation": None},
]


@pytest.mark.parametrize("phase", ["Pending", "Publishing", "Failed", None])
def test_what_publish_reads_changes_until_success(cluster: Cluster, namespace: str, phase: str | None):
    cluster.create(job(), namespace)
    if phase is not None:
        cluster.patch("FineTuneJob", "tiny", {"status": {"phase": phase}}, namespace, "status")
    for number, change in enumerate(PUBLISH_INPUTS, 2):
        changed = cluster.patch("FineTuneJob", "tiny", {"spec": change}, namespace)
        assert changed["metadata"]["generation"] == number
    with pytest.raises(ApiError, match="training does not change"):
        cluster.patch("FineTuneJob", "tiny", {"spec": {**PUBLISH_INPUTS[0], "training": {"epochs": 7}}}, namespace)


@pytest.mark.parametrize("output", [{}, {"output": {"uri": "s3://b/x"}}], ids=["default-output", "output"])
def test_what_publish_reads_does_not_change_after_success(cluster: Cluster, namespace: str, output: dict):
    cluster.create(job(**output, evaluation={"maxRows": 4}), namespace)
    # Both may come in any order; neither is refused at the end itself.
    cluster.patch("FineTuneJob", "tiny", {"spec": {"export": {"mergeWeights": True}}}, namespace)
    cluster.patch("FineTuneJob", "tiny", {"status": {"phase": "Succeeded"}}, namespace, "status")
    changes = [change for change in PUBLISH_INPUTS if change != {"output": output.get("output")}]
    for change in changes:
        with pytest.raises(ApiError) as refused:
            cluster.patch("FineTuneJob", "tiny", {"spec": change}, namespace)
        words = "evaluation, export, output and stages do not change once the job has succeeded"
        assert words in refused.value.message
    cluster.patch("FineTuneJob", "tiny", {"spec": {"ttlSecondsAfterFinished": 600}}, namespace)
    cluster.patch("FineTuneJob", "tiny", {"status": {"progress": {"step": 1}}}, namespace, "status")


def test_defaults_are_written_into_the_object(cluster: Cluster, namespace: str):
    spec = cluster.create(job(), namespace)["spec"]
    assert spec["resources"] == {"nodes": 1, "gpusPerNode": 0, "spot": False, "resourceName": "nvidia.com/gpu"}
    assert (spec["scheduling"], spec["storage"], spec["suspend"]) == ({"maxRestarts": 3}, {}, False)
