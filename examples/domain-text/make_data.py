"""Write the example's data: the paragraphs of some of this project's own pages, every tenth of them kept out."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from config_map import write  # noqa: E402

DOCS = HERE.parents[1] / "docs"
# What is written by hand, and does not grow with each release.
PAGES = (
    "decisions/0*.md", "aks.md", "architecture.md", "distributed.md", "faithful.md", "gitops.md", "operations.md",
    "parity.md",
)  # fmt: skip
SHORTEST = 60  # characters of a paragraph
_NOT_TEXT = re.compile(r"^(#|\||```|!\[|<)")


def paragraphs(page: str) -> Iterator[str]:
    """Yield the paragraphs and points of a page of Markdown, without headings, tables and code."""
    without_code = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    for block in re.split(r"\n\s*\n|\n(?=- )", without_code):
        text = " ".join(block.split()).removeprefix("- ")
        text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text).replace("**", "")
        if len(text) >= SHORTEST and not _NOT_TEXT.match(text):
            yield text


def rows() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the rows for training and for validation."""
    pages = [path for pattern in PAGES for path in sorted(DOCS.glob(pattern))]
    texts = [{"text": text} for text in dict.fromkeys(text for page in pages for text in paragraphs(page.read_text()))]
    return [row for index, row in enumerate(texts) if index % 10], texts[::10]


if __name__ == "__main__":
    write(HERE, rows())
