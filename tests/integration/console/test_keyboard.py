"""A job is started, and a dialog left, without a mouse."""

import re

from playwright.sync_api import Page, expect

from support.console_browser import settle, show
from support.console_rows import RUNNING
from support.hosted import Hosted
from support.hosted_jobs import CHAT, lines, put_file

MOST_TABS = 60


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has the focus is called so, and check that it is seen to have it."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate(_NAME_OF_FOCUS) == name:
            assert page.evaluate(_SEEN), f"the focus on {name} is not seen"
            return
    raise AssertionError(f"Tab does not come to {name}")


_NAME_OF_FOCUS = """() => {
  const element = document.activeElement;
  return element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent.trim() ?? element.textContent.trim();
}"""
_SEEN = """() => {
  const element = document.activeElement;
  const seen = (each) => getComputedStyle(each).outlineStyle !== "none";
  const beside = [element, element.parentElement, element.nextElementSibling];  // or its label
  return beside.some((each) => each !== null && seen(each));
}"""


def test_a_job_is_started_by_the_keyboard(page: Page, hosted: Hosted) -> None:
    hosted.run(put_file(hosted.sessions, hosted.settings.files, lines(CHAT)))
    show(page, "jobs")
    page.keyboard.press("Tab")
    assert page.evaluate(_NAME_OF_FOCUS) == "Skip to the content"
    tab_to(page, "New job")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="New job")).to_be_focused()
    settle(page)
    tab_to(page, "Training file")
    page.keyboard.press("ArrowDown")
    tab_to(page, "Supervised")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Beta")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    tab_to(page, "Epochs")
    page.keyboard.type("4")
    tab_to(page, "Start the job")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#/jobs/ftjob-"))
    job = hosted.client().fine_tuning.jobs.retrieve(page.url.rpartition("/")[2])
    assert job.hyperparameters and job.hyperparameters.n_epochs == 4


def test_a_dialog_keeps_the_focus_and_gives_it_back(page: Page) -> None:
    show(page, "jobs", RUNNING)
    tab_to(page, "Cancel")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
