"""The screens of files, usage and keys."""

import json
import re

import openai
import pytest
from playwright.sync_api import Page, expect

from support.console_browser import show
from support.hosted import Hosted
from support.hosted_jobs import CHAT, lines


def test_files_are_uploaded_read_and_deleted(page: Page, hosted: Hosted) -> None:
    show(page, "files")
    content = lines(CHAT)
    page.get_by_label("Choose a file to upload").set_input_files(
        files=[{"name": "own.jsonl", "mimeType": "application/jsonl", "buffer": content}]
    )
    expect(page.get_by_text("own.jsonl is uploaded.")).to_be_visible()
    row = page.get_by_role("row", name=re.compile("own.jsonl"))
    with page.expect_download() as download:
        row.get_by_role("button", name="Download own.jsonl").click()
    assert download.value.path().read_bytes() == content
    assert download.value.suggested_filename == "own.jsonl"
    row.get_by_role("link").click()
    expect(page.get_by_label("Content of the file")).to_contain_text(json.dumps(CHAT[0]))
    expect(page.get_by_role("heading", name="Report")).to_be_visible()
    show(page, "files")
    page.get_by_label("Purpose", exact=True).select_option("fine-tune")
    page.get_by_role("button", name="Delete own.jsonl").click()
    page.get_by_role("button", name="Delete the file").click()
    expect(page.get_by_role("button", name="Delete own.jsonl")).to_have_count(0)
    assert "own.jsonl" not in [file.filename for file in hosted.client().files.list()]


def test_a_file_that_is_refused_says_why(page: Page) -> None:
    show(page, "files")
    page.get_by_label("Choose a file to upload").set_input_files(
        files=[{"name": "empty.jsonl", "mimeType": "application/jsonl", "buffer": b""}]
    )
    expect(page.get_by_role("alert")).to_be_visible()


def test_usage_is_shown_by_day(page: Page, hosted: Hosted) -> None:
    show(page, "usage")
    total = page.locator(".totals div", has=page.get_by_text("Trained tokens", exact=True)).locator("dd")
    expect(total).to_have_text("553K")
    expect(page.get_by_role("img", name=re.compile("^Tokens by day"))).to_be_visible()
    assert page.locator(".bar rect.main").count() > 10
    page.get_by_role("radio", name="Cost").check()
    expect(page.get_by_role("img", name=re.compile(r"^Cost by day: \$"))).to_be_visible()
    page.get_by_role("radio", name="7 days").check()
    expect(page.locator(".bar")).to_have_count(7)
    expect(page.get_by_role("row", name=re.compile("^tiny"))).to_be_visible()


def test_keys_are_made_rotated_and_revoked(page: Page, hosted: Hosted) -> None:
    show(page, "keys")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name").fill("nightly")
    page.get_by_role("button", name="Create the key").click()
    first = page.get_by_label("The new key").inner_text().strip()
    page.get_by_role("button", name="I have it").click()
    expect(page.get_by_role("row", name=re.compile("nightly"))).to_be_visible()
    assert first not in page.content()  # shown once
    assert list(hosted.client(first).models.list())
    with pytest.raises(openai.PermissionDeniedError):
        hosted.client(first).get("/organization/projects", cast_to=object)

    page.get_by_role("button", name="Rotate nightly").click()
    page.get_by_label("The old key ends").select_option("At once")
    page.get_by_role("button", name="Rotate the key").click()
    second = page.get_by_label("The new key").inner_text().strip()
    page.get_by_role("button", name="I have it").click()
    assert second != first and list(hosted.client(second).models.list())
    with pytest.raises(openai.AuthenticationError):
        hosted.client(first).models.list()

    page.get_by_role("button", name="Revoke nightly").click()
    page.get_by_role("button", name="Revoke the key").click()
    expect(page.get_by_role("row", name=re.compile("nightly"))).to_have_count(0)
    with pytest.raises(openai.AuthenticationError):
        hosted.client(second).models.list()
