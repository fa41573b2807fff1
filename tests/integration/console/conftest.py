"""A browser, and a service with jobs, models, files and usage behind the console."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from support.console_browser import chromium, visiting
from support.console_build import console_folder
from support.console_rows import add_rows
from support.fake_backend import FakeBackend
from support.hosted import BASE, Hosted, serving
from support.manifests import job as tiny_job

TINY = {
    **BASE,
    "model": tiny_job()["spec"]["model"],
    "job": {"training": tiny_job()["spec"]["training"]},
    "method": "full",
    "price": {"training": 3.0, "input": 0.5, "output": 1.5},
}


@pytest.fixture(scope="session")
def console() -> Path:
    """A folder of the console's sources, with what is built of them in `dist`."""
    return console_folder()


# For a module: a loop of asyncio runs in this thread as long as the browser does, and other tests start their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium()
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=program, args=["--disable-dev-shm-usage"])


@pytest.fixture(scope="module")
def hosted(console: Path, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    folder = tmp_path_factory.mktemp("console")
    backend = FakeBackend()
    with serving(folder, backend, console=console / "dist", bases=[TINY]) as service:
        add_rows(service, backend, folder / "artifact")
        yield service


@pytest.fixture
def page(browser: Browser, hosted: Hosted) -> Iterator[Page]:
    """A tab that is signed in with the key of the first project."""
    with visiting(browser, hosted.url, hosted.key, viewport={"width": 1280, "height": 900}) as found:
        yield found
