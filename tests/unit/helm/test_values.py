"""The chart's files agree with one another and with the project."""

import json
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "tunesmith"


def test_the_version_is_the_projects() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_every_value_is_in_the_schema_and_has_a_default() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    del schema["properties"]["global"]  # Helm's own, for a chart that has this one below it.
    assert list(differences(values, schema, "")) == []


def differences(values: Any, schema: dict[str, Any], path: str) -> Any:
    """Paths that only one of both has, in objects whose keys the schema lists."""
    if not isinstance(values, dict) or "properties" not in schema:
        return
    optional = {"claims"} if path.endswith("/resources") else set()
    for key in set(values) ^ (set(schema["properties"]) - optional):
        yield f"{path}/{key}"
    for key in set(values) & set(schema["properties"]):
        yield from differences(values[key], schema["properties"][key], f"{path}/{key}")
    if schema.get("additionalProperties") is not False:
        yield f"{path}: takes what it does not know"
