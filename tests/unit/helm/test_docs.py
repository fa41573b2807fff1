"""The manifests in the docs are ones that the API takes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith_api.objects import FineTuneJobSpec, InferenceWorkspaceSpec

DOCS = Path(__file__).parents[3] / "docs"
SPECS = {"FineTuneJob": FineTuneJobSpec, "InferenceWorkspace": InferenceWorkspaceSpec}


def manifests(name: str) -> list[dict[str, Any]]:
    blocks = re.findall(r"^```yaml\n(.*?)^```", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)
    return [obj for block in blocks for obj in yaml.safe_load_all(block)]


@pytest.mark.parametrize(("name", "count"), [("aks.md", 3), ("gitops.md", 2)])
def test_the_manifests_of_our_kinds_are_valid(name: str, count: int) -> None:
    ours = [obj for obj in manifests(name) if obj["apiVersion"].startswith("tunesmith.dev/")]
    assert len(ours) == count
    for obj in ours:
        SPECS[obj["kind"]].model_validate(obj["spec"])


ROOT = DOCS.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert "://" in target or (page.parent / target).resolve().exists(), target
