"""The screens of jobs, in a browser over the real service."""

import re

from playwright.sync_api import Page, Route, expect

from support.console_browser import settle, show
from support.console_rows import DONE, FAILED, RUNNING, STEPS, TUNED
from support.hosted import Hosted
from support.hosted_jobs import CHAT, lines, put_file


def test_jobs_are_listed_and_filtered(page: Page) -> None:
    show(page, "jobs")
    rows = page.locator("tbody tr")
    expect(rows.filter(has_text=FAILED)).to_have_count(1)
    page.get_by_label("Status").select_option("Failed")
    expect(rows).to_have_count(1)
    expect(page.get_by_text(re.compile(r"^1 of \d+ jobs$"))).to_be_visible()
    page.get_by_label("Status").select_option("All")
    page.get_by_label("Base model").select_option("tiny")
    page.get_by_role("link", name=TUNED).click()
    expect(page).to_have_url(re.compile(f"#/jobs/{DONE}$"))


def test_all_of_a_job(page: Page) -> None:
    show(page, "jobs", DONE)
    expect(page.locator("h1")).to_contain_text("Succeeded")
    expect(page.get_by_role("img", name=re.compile(rf"^Loss: Training from .* over {STEPS} points"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^Learning rate"))).to_be_visible()
    need = page.get_by_role("row", name=re.compile("Train, GPU memory"))
    expect(need).to_contain_text("21.4Gi")
    expect(need).to_contain_text("19.9Gi")
    gate = page.get_by_role("row", name=re.compile("exactMatch"))
    for text in ("at least 0.8", "0.11", "0.92", "0.9", "Passed"):
        expect(gate).to_contain_text(text)
    expect(page.get_by_text("How do I send back a lamp?")).to_be_visible()
    expect(page.get_by_text(f"Step {STEPS}/{STEPS}:")).to_be_visible()
    expect(page.get_by_label("FineTuneJob as YAML")).to_contain_text("kind: FineTuneJob")
    expect(page.get_by_role("row", name=re.compile("ckpt-step"))).to_be_visible()
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    page.get_by_role("group", name=re.compile("^Loss")).focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text(f"Step {STEPS - 1}", exact=True)).to_be_visible()


def test_a_job_that_runs_or_has_failed_says_how_and_why(page: Page) -> None:
    show(page, "jobs", RUNNING)
    expect(page.get_by_text(f"Step 48 of {STEPS}")).to_be_visible()
    expect(page.get_by_role("progressbar", name="Training")).to_have_attribute("aria-valuenow", "40")
    expect(page.get_by_text("about 15 min")).to_be_visible()
    show(page, "jobs", FAILED)
    expect(page.get_by_role("alert")).to_contain_text("exactMatch is 0.41")
    show(page, "jobs", "ftjob-unknown")
    expect(page.get_by_role("alert")).to_contain_text("No such")


def test_a_job_is_paused_resumed_and_cancelled(page: Page, hosted: Hosted) -> None:
    training = hosted.run(put_file(hosted.sessions, hosted.settings.files, lines(CHAT)))
    jobs = hosted.client().fine_tuning.jobs
    id = jobs.create(model="tiny", training_file=training).id
    show(page, "jobs", id)
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Keep it").click()
    assert jobs.retrieve(id).status != "cancelled"
    page.get_by_role("button", name="Cancel").click()
    dialog.get_by_role("button", name="Cancel the job").click()
    expect(page.locator("h1")).to_contain_text("Cancelled")
    assert jobs.retrieve(id).status == "cancelled"


def test_a_job_is_made_again_with_changes(page: Page, hosted: Hosted) -> None:
    show(page, "jobs", DONE)
    page.get_by_role("link", name="Again with changes").click()
    expect(page.get_by_label("Epochs")).to_have_value("3")
    page.get_by_label("Epochs").fill("5")
    page.get_by_role("button", name="Start the job").click()
    expect(page).to_have_url(re.compile("#/jobs/ftjob-"))
    jobs = hosted.client().fine_tuning.jobs
    before, made = jobs.retrieve(DONE), jobs.retrieve(page.url.rpartition("/")[2])
    assert made.id != DONE
    assert (made.training_file, made.seed) == (before.training_file, before.seed)
    assert made.method and made.method.supervised and made.method.supervised.hyperparameters
    assert made.method.supervised.hyperparameters.n_epochs == 5


def test_a_job_is_made_by_the_form(page: Page, hosted: Hosted) -> None:
    show(page, "new")
    expect(page.get_by_role("button", name="Start the job")).to_be_disabled()
    content = {"name": "lamps.jsonl", "mimeType": "application/jsonl", "buffer": lines(CHAT * 2)}
    page.get_by_label("Upload a file of examples").set_input_files(files=[content])  # type: ignore[list-item]
    expect(page.get_by_label("Training file").locator("option:checked")).to_contain_text("lamps.jsonl")

    # What is in the file: what the model learns is marked.
    expect(page.get_by_text(re.compile(r"12 rows repeat an earlier one"))).to_be_visible()
    expect(page.locator(".preview mark", has_text=re.compile("It is")).first).to_be_visible()

    # What it takes, before it is started.
    expect(page.locator(".fits li").first).to_be_visible()
    yaml = page.get_by_label("FineTuneJob as YAML")
    expect(yaml).to_contain_text("method: full")
    page.get_by_label("Epochs").fill("2")
    expect(yaml).to_contain_text("epochs: 2")
    settle(page)

    page.get_by_label("Suffix").fill("lamps")
    page.get_by_role("button", name="Start the job").click()
    expect(page).to_have_url(re.compile("#/jobs/ftjob-"))
    job = hosted.client().fine_tuning.jobs.retrieve(page.url.rpartition("/")[2])
    file = hosted.client().files.retrieve(job.training_file)
    assert (job.model, file.filename) == ("tiny", "lamps.jsonl")


def test_a_list_of_choices_is_not_called_empty_while_it_is_loading(page: Page) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(re.compile(r"/v1/(files|models)\b"), hold)
    show(page, "new")
    for label in ("Base model", "Training file", "Validation file"):
        expect(page.get_by_label(label).locator("option")).to_have_text(["Loading …"])
    for route in held:
        route.continue_()
    settle(page)
    expect(page.get_by_label("Base model")).to_have_value("tiny")
    for label, none in (("Training file", "Choose a file"), ("Validation file", "None")):
        expect(page.get_by_label(label).locator("option").first).to_have_text(none)


def test_what_is_wrong_with_a_file_and_a_form_is_said(page: Page) -> None:
    show(page, "new")
    content = {"name": "bad.jsonl", "mimeType": "application/jsonl", "buffer": lines(CHAT) + b'{"messages": 3}\n'}
    page.get_by_label("Upload a file of examples").set_input_files(files=[content])  # type: ignore[list-item]
    expect(page.locator(".problems .error").first).to_contain_text("13")
