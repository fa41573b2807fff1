"""The console follows a job that really trains on this machine."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from support.console_browser import show, visiting
from support.hosted import Hosted, reconciling, serving
from support.hosted_jobs import CHAT, lines, put_file
from support.manifests import job as tiny_job
from tunesmith_backend.local.backend import LocalBackend

SPEC = tiny_job()["spec"]
BASE = {
    "name": "tiny",
    "model": SPEC["model"],
    "method": "full",
    "job": {name: SPEC[name] for name in ("training", "evaluation", "export")},
    "context_length": 128,
}
START_MILLISECONDS = 240_000


@pytest.fixture
def training(console: Path, tmp_path: Path) -> Iterator[Hosted]:
    """A service whose reconciler runs."""
    backend = LocalBackend(tmp_path / "work")
    given = {"console": console / "dist", "bases": [BASE], "reconcile_seconds": 0.2}
    with serving(tmp_path, backend, **given) as service, reconciling(service, backend):
        yield service


def points_of(curve: Locator) -> int:
    """Return the points of the curve of the training loss."""
    found = re.search(r"over (\d+) points", curve.get_attribute("aria-label") or "")
    assert found
    return int(found[1])


def grows(page: Page, curve: Locator, before: int) -> None:
    page.wait_for_function(
        "([element, before]) => Number(/over (\\d+) points/.exec(element.getAttribute('aria-label'))[1]) > before",
        arg=[curve.element_handle(), before],
    )


def test_the_curve_grows_while_a_job_trains(browser: Browser, training: Hosted) -> None:
    file = training.run(put_file(training.sessions, training.settings.files, lines(CHAT * 3)))
    job = training.client().fine_tuning.jobs.create(
        model="tiny", training_file=file, hyperparameters={"n_epochs": 1000, "batch_size": 4}
    )
    with visiting(browser, training.url, training.key) as page:
        show(page, "jobs", job.id)
        curve = page.get_by_role("img", name=re.compile("^Loss"))
        expect(curve).to_be_visible(timeout=START_MILLISECONDS)
        first = points_of(curve)
        grows(page, curve, first)
        expect(page.get_by_text(re.compile(r"^Step \d+ of \d+"))).to_be_visible()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Cancel the job").click()
        expect(page.locator("h1")).to_contain_text("Cancelled")
