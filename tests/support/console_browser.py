"""A browser that looks at the console."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from cluster.errors import CannotRunError
from cluster.packages import ensure, find

_NAMES = ("chromium", "chromium-browser")
_MILLISECONDS = 60_000
expect.set_options(timeout=_MILLISECONDS)

STORED = "tunesmith-key"


def chromium() -> str:
    """Return Chromium's path, installing it if necessary; skips the test where it cannot be installed."""
    found = next(filter(None, map(find, _NAMES)), None)
    if found is None:
        try:
            ensure({"chromium": "chromium"})
        except CannotRunError as error:
            pytest.skip(f"no Chromium: {error}")
        found = find("chromium")
    return str(found)


@contextmanager
def visiting(browser: Browser, url: str, key: str | None = None, **options: Any) -> Iterator[Page]:
    """Open a tab of its own on a service.

    At the end it fails if the console has asked another host, or has thrown an error.

    Args:
        browser: The browser.
        url: The service's.
        key: The key that the tab is signed in with; without one it is signed out.
        options: What the tab is like: `viewport`, `color_scheme`.
    """
    # Without transitions: a color half way to its end is no color of the console.
    context = browser.new_context(base_url=url, reduced_motion="reduce", **options)
    context.set_default_timeout(_MILLISECONDS)
    if key is not None:
        # An empty tab keeps nothing.
        context.add_init_script(f"if (location.protocol === 'http:') sessionStorage.setItem('{STORED}', '{key}')")
    page = context.new_page()
    foreign: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: _note(foreign, request.url, url))
    page.on("pageerror", lambda error: errors.append(f"{error.name}: {error.message}\n{error.stack}"))
    try:
        yield page
        assert foreign == [], foreign
        assert errors == [], errors
    finally:
        context.close()


def show(page: Page, *path: str, query: str = "") -> None:
    """Open a screen, and wait until it is there."""
    page.goto("about:blank")  # so that a screen is loaded anew even where only the part after # changes
    page.goto("/console/#/" + "/".join(quote(part, safe="") for part in path) + (f"?{query}" if query else ""))
    expect(page.locator("main h1")).to_be_visible()


def settle(page: Page) -> None:
    """Wait until nothing is loading."""
    expect(page.get_by_text("Loading …")).to_have_count(0)


def _note(foreign: list[str], asked: str, url: str) -> None:
    if not asked.startswith((f"{url}/", "about:", "blob:", "data:")):
        foreign.append(asked)
