"""The chart as tests use it: rendered, linted, installed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import binaries
from cluster.errors import CannotRunError

CHART = Path(__file__).parents[2] / "helm" / "tunesmith"
NAMESPACE = "tunesmith-system"

Object = dict[str, Any]
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}


class HelmError(Exception):
    """What helm said when it refused."""


def helm(*arguments: str, environment: dict[str, str] | None = None, text: str | None = None) -> str:
    """Run helm and return what it printed; skip the test where helm cannot be had.

    Raises:
        HelmError: It failed.
    """
    try:
        program = binaries.helm()
    except CannotRunError as reason:
        pytest.skip(str(reason))
    result = subprocess.run(
        [str(program), *arguments], env=environment, input=text, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if result.returncode:
        raise HelmError(result.stderr + result.stdout)
    return result.stdout


def render(
    values: Object | None = None, chart: Path = CHART, release: str = "tunesmith", namespace: str = NAMESPACE
) -> list[Object]:
    """Return the objects of a release with the given values."""
    text = helm("template", release, str(chart), "--namespace", namespace, "-f", "-", text=json.dumps(values or {}))
    return [obj for obj in yaml.safe_load_all(text) if obj]


def named(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """Return the one object of a kind, or of a kind and a name."""
    found = [obj for obj in objects if obj["kind"] == kind and name in (None, obj["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} objects {kind} {name or ''}"
    return found[0]


def kinds(objects: list[Object]) -> set[str]:
    """Return the kinds of some objects."""
    return {obj["kind"] for obj in objects}
