"""What every screen must be: usable by all, on small screens, small and alone."""

import gzip
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from support.console_browser import settle, show, visiting
from support.console_build import run
from support.console_rows import DONE, FAILED, RUNNING, TUNED
from support.hosted import Hosted

MOST_BYTES = 300_000
SCREENS: dict[str, tuple[tuple[str, ...], str]] = {
    "jobs": (("jobs",), ""),
    "job": (("jobs", DONE), ""),
    "running": (("jobs", RUNNING), ""),
    "failed": (("jobs", FAILED), ""),
    "new": (("new",), f"from={DONE}"),
    "models": (("models",), ""),
    "model": (("models", TUNED), ""),
    "playground": (("playground",), ""),
    "files": (("files",), ""),
    "usage": (("usage",), ""),
    "keys": (("keys",), ""),
}
WIDTHS = (360, 1280)


def violations(page: Page, console: Path) -> list[str]:
    """Return what axe has to say of what the page shows."""
    page.evaluate((console / "node_modules" / "axe-core" / "axe.min.js").read_text())
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{item['id']}: {node['html']}: {node['failureSummary']}"
        for item in found["violations"]
        for node in item["nodes"]
    ]


def too_wide(page: Page) -> int:
    """Return by how many pixels the page is wider than the screen."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.mark.parametrize("colors", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_is_too_wide(
    browser: Browser, hosted: Hosted, console: Path, colors: Any
) -> None:
    with visiting(browser, hosted.url, color_scheme=colors) as page:
        page.goto("/console/")
        expect(page.get_by_label("API key")).to_be_visible()
        assert violations(page, console) == []
    for width in WIDTHS:
        size: Any = {"width": width, "height": 800}
        with visiting(browser, hosted.url, hosted.key, color_scheme=colors, viewport=size) as page:
            for name, (path, query) in SCREENS.items():
                show(page, *path, query=query)
                settle(page)
                assert violations(page, console) == [], name
                assert too_wide(page) <= 0, name


def test_axe_finds_nothing_in_dialogs(page: Page, console: Path) -> None:
    for path, button in ((("keys",), "New key"), (("jobs", RUNNING), "Cancel"), (("models",), f"Delete {TUNED}")):
        show(page, *path)
        page.get_by_role("button", name=button, exact=True).click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert violations(page, console) == []


def test_the_first_load_is_small(console: Path) -> None:
    dist = console / "dist"
    index = (dist / "index.html").read_text()
    names = re.findall(r'(?:src|href)="\./([^"]+)"', index)
    assert any(name.endswith(".js") for name in names) and any(name.endswith(".css") for name in names)
    files = [dist / "index.html", *(dist / name for name in names)]
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) < MOST_BYTES


def test_types_are_right(console: Path) -> None:
    run(console, "npx", "tsc", "--noEmit")


def test_colours_can_be_chosen(page: Page) -> None:
    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    show(page, "jobs")
    page.get_by_label("Colours").select_option("light")
    light = background()
    page.get_by_label("Colours").select_option("dark")
    dark = background()
    assert light != dark
    show(page, "models")
    assert background() == dark  # it is kept
