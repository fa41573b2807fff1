"""The CRDs: what Kubernetes takes as a structural schema, and nothing that the models do not say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import re2
import yaml
from pydantic import BaseModel, Field

from tunesmith_api.codegen.crd import custom_resource_definitions
from tunesmith_api.codegen.generate import drift, main
from tunesmith_api.codegen.schema import SchemaError, model_schema
from tunesmith_api.objects import FineTuneJob, InferenceWorkspace

ROOT = Path(__file__).parents[3]
DEFINITIONS = {definition["spec"]["names"]["kind"]: definition for definition in custom_resource_definitions()}
KINDS = pytest.mark.parametrize("kind", DEFINITIONS)


def schema_of(kind: str) -> dict[str, Any]:
    return DEFINITIONS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


def test_crds_and_docs_are_what_the_models_say():
    assert drift(ROOT) == [], "run: make crds"


def test_drift_is_found(tmp_path, capsys):
    assert main(["--root", str(tmp_path)]) == 0
    assert main(["--check", "--root", str(tmp_path)]) == 0
    path = tmp_path / "crds" / "finetunejobs.tunesmith.dev.yaml"
    path.write_text(path.read_text().replace("maximum: 65536", "maximum: 65537"))
    (tmp_path / "crds" / "old.yaml").write_text("")
    assert main(["--check", "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "65537" in said
    assert "old.yaml: no model has it" in said
    assert "make crds" in said


@KINDS
def test_every_field_has_a_description(kind):
    for path, node in nodes(schema_of(kind), kind):
        for name, field in node.get("properties", {}).items():
            # Kubernetes forbids a description of metadata itself.
            assert field.get("description") or f"{path}.{name}" == f"{kind}.metadata", f"{path}.{name}"


def test_a_field_without_description_is_refused():
    class Silent(BaseModel):
        inner: Annotated[int, Field(ge=0)] = 1

    with pytest.raises(SchemaError, match=r"Silent\.inner has no description"):
        model_schema(Silent)


def test_a_type_that_no_structural_schema_has_is_refused():
    class Either(BaseModel):
        inner: Annotated[int | str, Field(description="One or the other.")] = 1

    with pytest.raises(SchemaError, match="anyOf"):
        model_schema(Either)


@KINDS
def test_schemas_are_structural(kind):
    allowed = {
        *("description", "type", "format", "default", "enum", "pattern", "required", "properties", "items"),
        *("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "minLength", "maxLength", "minItems"),
        *("maxItems", "minProperties", "maxProperties", "additionalProperties"),
        *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations"),
        *("x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"),
    }
    untyped = {"x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"}
    types = {"object", "array", "string", "integer", "number", "boolean"}
    for path, node in nodes(schema_of(kind), kind):
        assert set(node) <= allowed, path
        assert node.get("type") in types or untyped & set(node), path
        assert isinstance(node.get("exclusiveMinimum", True), bool), path
        assert isinstance(node.get("additionalProperties", {}), dict), path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert set(node.get("required", ())) <= set(node.get("properties", {})), path
        if node.get("type") in ("integer", "number"):
            assert node["format"] == {"integer": "int64", "number": "double"}[node["type"]], path


@KINDS
def test_what_a_user_writes_is_bounded(kind):
    bounds = {"array": ("maxItems",), "string": ("maxLength", "enum", "pattern"), "integer": ("maximum", "enum")}
    for path, node in nodes(schema_of(kind)["properties"]["spec"], "spec"):
        wanted = bounds.get(node.get("type", "string"), ())
        if "additionalProperties" in node:
            wanted = ("maxProperties",)
        assert not wanted or any(bound in node for bound in wanted), path


@KINDS
def test_patterns_are_re2(kind):
    patterns = [node["pattern"] for _, node in nodes(schema_of(kind), kind) if "pattern" in node]
    assert patterns
    for pattern in patterns:
        re2.compile(pattern)
        # Unicode in Rust, ASCII in Go.
        assert not any(group in pattern for group in (r"\w", r"\d", r"\s", r"\b"))


@KINDS
def test_defaults_are_those_of_the_models(kind):
    minimal = {
        "FineTuneJob": {"model": {"uri": "hf://a/b"}, "dataset": {"sources": [{"uri": "./x.jsonl"}]}},
        "InferenceWorkspace": {"model": {"fineTuneJob": "a"}},
    }[kind]
    spec = (FineTuneJob if kind == "FineTuneJob" else InferenceWorkspace).model_fields["spec"].annotation

    def with_defaults(value: Any, schema: dict[str, Any]) -> Any:
        """The API server's defaulting: absent fields get their default, and so do the fields in it."""
        if isinstance(value, list):
            return [with_defaults(item, schema["items"]) for item in value]
        if not isinstance(value, dict):
            return value
        value = dict(value)
        for name, field in schema.get("properties", {}).items():
            if name not in value and "default" in field:
                value[name] = field["default"]
            if name in value:
                value[name] = with_defaults(value[name], field)
        return value

    assert with_defaults(minimal, schema_of(kind)["properties"]["spec"]) == spec.model_validate(minimal).to_api()


def test_the_names_and_the_subresources():
    job, workspace = DEFINITIONS["FineTuneJob"]["spec"], DEFINITIONS["InferenceWorkspace"]["spec"]
    assert (job["names"]["shortNames"], workspace["names"]["shortNames"]) == (["ftj"], ["iw"])
    for spec in (job, workspace):
        assert spec["names"]["categories"] == ["tunesmith"]
        assert spec["group"] == "tunesmith.dev"
        version = spec["versions"][0]
        assert (version["name"], version["subresources"]["status"]) == ("v1alpha1", {})
        status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
        assert status["default"] == {"observedGeneration": -1}
        conditions = status["properties"]["conditions"]
        assert (conditions["x-kubernetes-list-type"], conditions["x-kubernetes-list-map-keys"]) == ("map", ["type"])
    assert workspace["versions"][0]["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    assert "scale" not in job["versions"][0]["subresources"]


UNTIL_SUCCEEDED = ("evaluation", "export", "output", "stages")


@KINDS
def test_printer_columns_name_fields_that_exist(kind):
    version = DEFINITIONS[kind]["spec"]["versions"][0]
    for column in version["additionalPrinterColumns"]:
        path = column["jsonPath"]
        if path == ".metadata.creationTimestamp":
            continue
        node = version["schema"]["openAPIV3Schema"]
        for step in path.split("[")[0].lstrip(".").split("."):
            node = node["properties"][step]
        if "[" in path:
            node = node["items"]["properties"][path.rsplit(".", 1)[1]]
        assert node["type"] == column["type"], path


def test_what_of_a_job_cannot_be_changed():
    spec = schema_of("FineTuneJob")["properties"]["spec"]
    nodes = {"": spec, **spec["properties"]}
    rules = {
        (name, rule["rule"], rule["message"])
        for name, node in nodes.items()
        for rule in node.get("x-kubernetes-validations", ())
        if "oldSelf" in rule["rule"]
    }
    message = "{} does not change once the job is created; write a new FineTuneJob under another name"
    fixed = set(spec["properties"]) - {"suspend", "ttlSecondsAfterFinished", *UNTIL_SUCCEEDED}
    optional = {name for name in fixed if "default" not in spec["properties"][name]} - set(spec["required"])
    assert rules == {(name, "self == oldSelf", message.format(name)) for name in fixed} | {
        ("", f"has(self.{name}) == has(oldSelf.{name})", message.format(name)) for name in optional
    }
    assert optional == {"adapter", "classification", "dpo", "podTemplate", "translation"}


def test_what_publish_reads_is_fixed_by_success():
    (rule,) = schema_of("FineTuneJob")["x-kubernetes-validations"]
    condition, _, equal = rule["rule"].partition(" || ")
    assert condition.startswith("!(") and condition.endswith("oldSelf.status.phase == 'Succeeded')")
    for name in UNTIL_SUCCEEDED:
        assert f"self.spec.{name} == oldSelf.spec.{name}" in equal
    assert rule["message"] == (
        "evaluation, export, output and stages do not change once the job has succeeded; write a new FineTuneJob under "
        "another name"
    )


@pytest.mark.parametrize("path", sorted((ROOT / "crds").glob("*.yaml")), ids=lambda path: path.name)
def test_the_files_are_plain_yaml(path):
    text = path.read_text()
    assert "{{" not in text
    assert "&id" not in text
    assert yaml.safe_load(text)["kind"] == "CustomResourceDefinition"
