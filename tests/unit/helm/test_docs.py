"""The manifests in the docs are ones that the API takes."""

import re
from pathlib import Path

import pytest

from support.docs import DOCS, manifests
from tunesmith_api.objects import FineTuneJobSpec, InferenceWorkspaceSpec

SPECS = {"FineTuneJob": FineTuneJobSpec, "InferenceWorkspace": InferenceWorkspaceSpec}


@pytest.mark.parametrize(("name", "count"), [("aks.md", 3), ("gitops.md", 2), ("adapters.md", 3), ("workspaces.md", 1)])
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
