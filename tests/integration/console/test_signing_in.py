"""Signing in with a key, and what a key may not see."""

from playwright.sync_api import Browser, expect

from support.console_browser import STORED, show, visiting
from support.console_rows import DONE
from support.hosted import Hosted


def test_a_key_signs_in_until_one_signs_out(browser: Browser, hosted: Hosted) -> None:
    with visiting(browser, hosted.url) as page:
        page.goto("/console/")
        page.get_by_label("API key").fill("sk-ts-wrong-key")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("not valid")
        page.get_by_label("API key").fill(hosted.key)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
        expect(page.get_by_text("research")).to_be_visible()
        assert page.evaluate(f"sessionStorage.getItem('{STORED}')") == hosted.key
        assert hosted.key not in page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        assert page.evaluate(f"sessionStorage.getItem('{STORED}')") is None


def test_another_project_sees_nothing(browser: Browser, hosted: Hosted) -> None:
    with visiting(browser, hosted.url, hosted.other_key) as page:
        show(page, "jobs")
        expect(page.get_by_text("No jobs yet")).to_be_visible()
        show(page, "jobs", DONE)
        expect(page.get_by_role("alert")).to_contain_text("No such")


def test_a_provider_is_offered(browser: Browser, hosted: Hosted) -> None:
    with visiting(browser, hosted.url) as page:
        answer = {"providers": [{"id": "dex", "name": "Dex", "url": "/console/api/login/dex"}]}
        page.route("**/console/api/session", lambda route: route.fulfill(json=answer))
        page.goto("/console/")
        expect(page.get_by_role("link", name="Sign in with Dex")).to_have_attribute("href", "/console/api/login/dex")
