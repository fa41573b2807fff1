"""The screens of models: the list, one model, and the playground over a real server of a tiny model."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from support.console_browser import show, visiting
from support.console_rows import DONE, EARLIER, TUNED, add_rows
from support.fake_backend import FakeBackend
from support.hosted import BASE, Hosted, serving
from support.serving_process import ServingProcess
from support.tiny_models import make_artifact


@pytest.fixture(scope="module")
def answering(console: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """A service whose tuned models answer."""
    folder = tmp_path_factory.mktemp("answering")
    artifact = make_artifact(folder / "tiny")
    options = ("--precision", "fp32", "--model-name", "tiny", "--slots", "3", "--threads", "1")
    backend = FakeBackend()
    with (
        ServingProcess(artifact, *options) as server,
        serving(folder, backend, console=console / "dist", bases=[BASE]) as service,
    ):
        add_rows(service, backend, folder / "artifact", endpoint=f"{server.url}/v1")
        yield service


def test_models_are_listed_and_deleted(page: Page, hosted: Hosted) -> None:
    show(page, "models")
    page.get_by_role("radio", name="Fine-tuned").check()
    expect(page.get_by_role("row", name=re.compile("^tiny"))).to_have_count(0)
    page.get_by_role("button", name=f"Delete {EARLIER}").click()
    page.get_by_role("button", name="Delete the model").click()
    expect(page.get_by_role("button", name=f"Delete {EARLIER}")).to_have_count(0)
    assert EARLIER not in [model.id for model in hosted.client().models.list()]
    page.get_by_role("link", name=TUNED, exact=True).click()
    expect(page.get_by_role("link", name=DONE)).to_be_visible()
    expect(page.get_by_role("region", name="Python")).to_contain_text(f'model="{TUNED}"')


def test_models_answer_beside_each_other(browser: Browser, answering: Hosted) -> None:
    with visiting(browser, answering.url, answering.key, viewport={"width": 1280, "height": 900}) as page:
        show(page, "playground")
        expect(page.get_by_label("Fine-tuned", exact=True)).to_have_value(TUNED)
        expect(page.get_by_label("Previous")).to_have_value(EARLIER)
        expect(page.get_by_label("Base", exact=True)).to_have_value("tiny")
        page.get_by_label("Base", exact=True).select_option("None")  # it is not served here
        page.get_by_text("Settings", exact=True).click()
        page.get_by_label("Most tokens").fill("6")
        page.get_by_label("Question").fill("How are you?")
        page.keyboard.press("Enter")
        for name in (TUNED, EARLIER):
            answer = page.get_by_role("group", name=f"Answer of {name}")
            expect(answer).to_have_attribute("aria-busy", "false")
            expect(answer.locator(".answer-text")).not_to_be_empty()
        python = page.get_by_role("region", name="Python")
        expect(python).to_contain_text(f'model="{TUNED}"')
        expect(python).to_contain_text(f'base_url="{answering.url}/v1"')
        expect(python).to_contain_text("How are you?")
        page.get_by_role("tab", name="curl").click()
        expect(page.get_by_role("region", name="curl")).to_contain_text(f"{answering.url}/v1/chat/completions")
