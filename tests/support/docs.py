"""What the documentation shows."""

import re
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parents[2] / "docs"


def manifests(page: str) -> list[dict[str, Any]]:
    """The manifests of a page; pieces of manifests are left out."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    return [obj for block in blocks for obj in yaml.safe_load_all(block) if "apiVersion" in obj]
