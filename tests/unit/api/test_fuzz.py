"""Whatever is in a manifest, loading it gives findings, never an exception; what is valid survives a round trip."""

import copy
import json
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.schema_strategies import from_schema
from tunesmith_api.codegen.schema import model_schema
from tunesmith_api.manifests import Manifests, load_manifests
from tunesmith_api.objects import FineTuneJob, InferenceWorkspace

KINDS = {"FineTuneJob": FineTuneJob, "InferenceWorkspace": InferenceWorkspace}
VALID = {
    "FineTuneJob": {
        "model": {"scratch": {"hiddenSize": 64, "numAttentionHeads": 4}},
        "method": "full",
        "dataset": {
            "sources": [{"uri": "./data.jsonl", "sha256": "0" * 64}, {"uri": "s3://bucket/data.parquet"}],
            "columns": {"prompt": "question"},
            "validation": {"fraction": 0.1},
        },
        "training": {"epochs": 2, "learningRate": 0.001, "checkpoint": {"everySteps": 5}},
        "evaluation": {"gates": [{"metric": "exactMatch", "min": 0.5}]},
        "export": {"precisions": ["fp32", "int4"], "parity": {"rows": 4}},
        "output": {"uri": "./artifact"},
    },
    "InferenceWorkspace": {"model": {"fineTuneJob": "my-job"}, "runtime": {"maxBatchSize": 2}, "replicas": 2},
}
DATA = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d"}, "data": {"a.jsonl": '{"text": "x"}\n'}}


def manifest(kind: str, spec: Any) -> dict[str, Any]:
    return {"apiVersion": "tunesmith.dev/v1alpha1", "kind": kind, "metadata": {"name": "my-job"}, "spec": spec}


DOCUMENTS = [*(manifest(kind, spec) for kind, spec in VALID.items()), DATA]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["yes", "1e3", "0x1F", "{{ .Values.x }}", "*a", "&a", "<<", "hf://a/b", "../..", "tunesmith.dev/v1alpha1"]
    )
)
names = st.text(max_size=6) | st.sampled_from(
    ["apiVersion", "kind", "metadata", "spec", "status", "name", "model", "uri", "items", "data", "binaryData", "<<"]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)


def fuzz(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "manifest.yaml"


def load(path, text: str | bytes) -> Manifests:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    path.write_bytes(data)
    manifests = load_manifests([path])
    count = max(len(data.splitlines()), data.count(b"\n") + 1)
    for finding in manifests.findings:
        assert finding.message
        assert finding.remedy
        assert 0 <= finding.line <= count
        assert len(str(finding)) < 2000
    for item in (*manifests.fine_tune_jobs, *manifests.inference_workspaces):
        assert KINDS[item.kind].model_validate(item.to_api()).to_api() == item.to_api()
    return manifests


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """Return a valid document of which some values are others, gone, or joined by new ones."""
    document = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        parent, node = None, document
        while isinstance(node, dict | list) and node and (parent is None or draw(st.integers(0, 4))):
            key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            parent, node = node, node[key]
        if parent is None:
            return draw(values)
        change = draw(st.sampled_from(["replace", "remove", "add", "wrap"]))
        if change == "replace":
            parent[key] = draw(values)
        elif change == "remove":
            del parent[key]
        elif change == "wrap":
            parent[key] = [node]
        elif isinstance(parent, dict):
            parent[draw(names)] = draw(values)
        else:
            parent.append(draw(values))
    return document


@fuzz(800)
@given(st.lists(values, min_size=1, max_size=3))
def test_any_documents(path, documents):
    load(path, yaml.safe_dump_all(documents))


@fuzz(1200)
@given(mutated(), st.booleans())
def test_changed_manifests(path, document, as_json):
    load(path, json.dumps(document) if as_json else yaml.safe_dump(document))


TEXT = yaml.safe_dump_all(DOCUMENTS)


@fuzz(1500)
@given(st.data())
def test_changed_text(path, data):
    text = TEXT
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 12))
        inserted = data.draw(st.text(max_size=4) | st.sampled_from(list("\t:-[]{}'\"*&!|>%@`#,?\r\n\x00\x85\u2028")))
        text = text[:start] + inserted + text[start + length :]
    load(path, text)


@fuzz(500)
@given(st.binary(max_size=64), st.integers(0, len(TEXT)))
def test_any_bytes(path, junk, start):
    data = TEXT.encode()
    load(path, data[:start] + junk + data[start:])


@pytest.mark.parametrize("kind", KINDS)
def test_valid_specs_survive_a_round_trip(path, kind):
    seen = []

    @fuzz(250)
    @given(from_schema(model_schema(KINDS[kind])["properties"]["spec"], one_of=True))
    def survive(spec):
        manifests = load(path, json.dumps(manifest(kind, spec)))
        rules = [finding for finding in manifests.findings if "configMapKeyRef" not in finding.field]
        items = [*manifests.fine_tune_jobs, *manifests.inference_workspaces]
        # Fields within the bounds of the schema can break rules, and nothing else.
        assert items or rules
        seen.append(not rules)
        for item in items:
            # Quoted, for PyYAML leaves words bare that kubectl takes for truth values (n, y).
            again = load(path, yaml.safe_dump(item.to_api(), default_style='"'))
            (same,) = [*again.fine_tune_jobs, *again.inference_workspaces]
            assert same.to_api() == item.to_api()
            assert same.spec == item.spec

    survive()
    assert sum(seen) >= 20, sum(seen)
