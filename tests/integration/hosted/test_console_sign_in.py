"""People sign in to the console by a real OpenID Connect provider, and out again; two replicas share their sessions."""

import hashlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import select

from support.dex import CLIENT, SECRET, Dex, dex, enter
from support.hosted import Hosted, serving
from tunesmith_hosted.config.sign_in import SignIn
from tunesmith_hosted.console.sign_in.sessions import SessionCallers
from tunesmith_hosted.database.tables import AuditEntry, ConsoleSession, SignInAttempt

URL = "http://127.0.0.1:1"  # what the settings say; tests ask the port that the service got
CALLBACK = f"{URL}/console/api/login/company/callback"
CONSOLE = {"x-tunesmith-console": "1"}
GRANTS = [
    {"email": "@example.com", "project": "acme/research", "scopes": ["files", "models"]},
    {"email": "ada@example.com", "project": "acme/research", "scopes": ["usage"]},
    {"group": "leads", "project": "rival/research"},
    {"group": "nobody-has-it", "project": "rival/research", "scopes": ["admin"]},
]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dex]:
    with dex(tmp_path_factory.mktemp("dex"), [CALLBACK]) as running:
        yield running


@pytest.fixture(scope="module")
def hosted(provider: Dex, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    known: dict[str, Any] = {"id": "company", "name": "The company", "issuer": provider.issuer, "client_id": CLIENT}
    known["scopes"] = ["openid", "profile", "email", "groups"]
    sign_in = {"providers": [{**known, "client_secret": SECRET}], "grants": GRANTS}
    with serving(tmp_path_factory.mktemp("hosted"), None, public_url=URL, sign_in=sign_in) as service:
        yield service


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    with httpx.Client() as client:
        yield client


def begin(hosted: Hosted, browser: httpx.Client, next: str = "/console/jobs") -> str:
    """Ask to sign in, and return where the provider is."""
    answer = browser.get(f"{hosted.url}/console/api/login/company", params={"next": next})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def come_back(hosted: Hosted, browser: httpx.Client, answer: httpx.Response) -> httpx.Response:
    """Follow the redirect of the provider to where the service is."""
    location = answer.headers["location"]
    assert location.startswith(CALLBACK)
    return browser.get(location.replace(URL, hosted.url))


def sign_in(hosted: Hosted, browser: httpx.Client, email: str = "ada@example.com") -> httpx.Response:
    return come_back(hosted, browser, enter(browser, begin(hosted, browser), email))


def session(hosted: Hosted, browser: httpx.Client) -> dict[str, Any]:
    return dict(browser.get(f"{hosted.url}/console/api/session").json())


def test_somebody_signs_in_and_out(hosted: Hosted, browser: httpx.Client) -> None:
    before = session(hosted, browser)
    provider = {"id": "company", "name": "The company", "url": "/console/api/login/company"}
    assert before["providers"] == [provider] and before["project"] is before["person"] is None
    entered = sign_in(hosted, browser)
    assert entered.status_code == 303 and entered.headers["location"] == "/console/jobs"
    cookie = entered.headers.get_list("set-cookie")[-1]
    assert re.match(r"tunesmith-session=[\w-]{43}; HttpOnly; Max-Age=43200; Path=/; SameSite=lax$", cookie), cookie
    found = session(hosted, browser)
    assert found["person"] == {"name": "ada", "email": "ada@example.com"}
    assert found["scopes"] == ["files", "models", "usage"]
    assert browser.get(f"{hosted.url}/v1/files").status_code == 200
    assert browser.get(f"{hosted.url}/v1/fine_tuning/jobs").json()["error"]["code"] == "insufficient_scope"
    assert browser.post(f"{hosted.url}/console/api/logout", headers=CONSOLE).status_code == 204
    assert session(hosted, browser)["person"] is None


def test_signing_out_ends_the_session_at_every_replica(hosted: Hosted, browser: httpx.Client) -> None:
    sign_in(hosted, browser)
    name = "tunesmith-session"
    value = browser.cookies[name]
    other = SessionCallers(hosted.settings, hosted.sessions)  # as another replica has it
    caller = hosted.run(other.find({name: value}))
    assert caller.actor.startswith("company:") and "ada" not in caller.organization
    assert hosted.run(other.find({name: value[:-1] + "_"})) is None
    browser.post(f"{hosted.url}/console/api/logout", headers=CONSOLE)
    assert hosted.run(other.find({name: value})) is None
    answer = httpx.get(f"{hosted.url}/v1/files", headers={"cookie": f"{name}={value}"})
    assert answer.status_code == 401


def test_the_database_has_hashes_of_what_browsers_have(hosted: Hosted, browser: httpx.Client) -> None:
    state = parse_qs(urlsplit(begin(hosted, browser)).query)["state"][0]
    waiting = browser.cookies["tunesmith-sign-in"]
    sign_in(hosted, browser)
    value = browser.cookies["tunesmith-session"]

    async def rows() -> tuple[list[str], list[tuple[str, str]]]:
        async with hosted.sessions() as session:
            found = [str(vars(row)) for row in (await session.execute(select(ConsoleSession))).scalars()]
            found += [str(vars(row)) for row in (await session.execute(select(SignInAttempt))).scalars()]
            audit = [(row.action, row.actor) for row in (await session.execute(select(AuditEntry))).scalars()]
            return found, audit

    found, audit = hosted.run(rows())
    assert any(hashlib.sha256(value.encode()).hexdigest() in row for row in found)
    assert any(hashlib.sha256(waiting.encode()).hexdigest() in row for row in found)
    assert not [row for row in found if value in row or waiting in row or state in row]
    actors = {actor for action, actor in audit if action == "session.created"}
    assert actors and all(actor.startswith("company:") for actor in actors)


def test_another_site_cannot_change_anything(hosted: Hosted, browser: httpx.Client) -> None:
    sign_in(hosted, browser)
    refused = browser.delete(f"{hosted.url}/v1/files/file-1")
    assert refused.status_code == 403 and refused.json()["error"]["code"] == "missing_console_header"
    assert browser.post(f"{hosted.url}/console/api/logout").status_code == 403
    assert session(hosted, browser)["person"], "the session goes on"
    assert browser.delete(f"{hosted.url}/v1/files/file-1", headers=CONSOLE).status_code == 404


def test_a_key_goes_before_a_cookie(hosted: Hosted, browser: httpx.Client) -> None:
    sign_in(hosted, browser)
    with_key = {"authorization": f"Bearer {hosted.other_key}"}
    found = browser.get(f"{hosted.url}/console/api/session", headers=with_key).json()
    assert found["organization"]["name"] == "rival" and found["person"] is None
    assert browser.delete(f"{hosted.url}/v1/files/file-1", headers=with_key).status_code == 404


def test_somebody_works_in_the_projects_that_are_open_to_them(hosted: Hosted, browser: httpx.Client) -> None:
    sign_in(hosted, browser)
    projects = session(hosted, browser)["projects"]
    assert isinstance(projects, list) and [item["organization"] for item in projects] == ["acme", "rival"]
    chosen = {"project": projects[1]["id"]}
    url = f"{hosted.url}/console/api/session/project"
    assert browser.post(url, json=chosen).status_code == 403, "without the header"
    assert browser.post(url, json=chosen, headers=CONSOLE).json() == chosen
    found = session(hosted, browser)
    assert found["organization"]["name"] == "rival" and "admin" not in found["scopes"]
    with httpx.Client() as bobs:
        sign_in(hosted, bobs, "bob@example.com")
        assert bobs.post(url, json=chosen, headers=CONSOLE).status_code == 404
        assert session(hosted, bobs)["scopes"] == ["files", "models"]


def test_somebody_without_a_grant_is_told_so(hosted: Hosted, browser: httpx.Client) -> None:
    answer = sign_in(hosted, browser, "eve@elsewhere.example")
    assert answer.status_code == 403 and "no project is open to you" in answer.text
    assert "eve@elsewhere.example" in answer.text and "acme" not in answer.text
    assert "tunesmith-session" not in browser.cookies


def test_a_grant_that_is_taken_back_ends_what_it_allows(hosted: Hosted, browser: httpx.Client) -> None:
    sign_in(hosted, browser, "bob@example.com")
    cookies = dict(browser.cookies)
    without = SignIn.model_validate({**hosted.settings.sign_in.model_dump(), "grants": []})
    settings = hosted.settings.model_copy(update={"sign_in": without})
    assert hosted.run(SessionCallers(settings, hosted.sessions).find(cookies)) is None


def test_a_wrong_password_signs_in_nobody(hosted: Hosted, browser: httpx.Client) -> None:
    answer = enter(browser, begin(hosted, browser), "ada@example.com", "wrong")
    assert "location" not in answer.headers
    assert session(hosted, browser)["person"] is None


def test_what_comes_back_counts_once_and_in_the_same_browser(hosted: Hosted, browser: httpx.Client) -> None:
    entered = enter(browser, begin(hosted, browser), "ada@example.com")
    with httpx.Client() as stranger:  # who was sent the link: they would work in somebody else's session
        answer = come_back(hosted, stranger, entered)
        assert answer.status_code == 403 and "another browser" in answer.text
        assert "tunesmith-session" not in stranger.cookies
    assert come_back(hosted, browser, entered).status_code == 303
    assert come_back(hosted, browser, entered).status_code == 403


def test_the_code_is_worth_nothing_without_the_verifier(hosted: Hosted, provider: Dex, browser: httpx.Client) -> None:
    entered = enter(browser, begin(hosted, browser), "ada@example.com")
    code = parse_qs(urlsplit(entered.headers["location"]).query)["code"][0]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
    stolen = httpx.post(f"{provider.issuer}/token", data=form, auth=(CLIENT, SECRET))
    assert stolen.status_code == 400, stolen.text


@pytest.mark.parametrize("next", ["https://evil.example/", "//evil.example", "/v1/files", "/console/api/logout"])
def test_it_leads_to_no_other_site(hosted: Hosted, browser: httpx.Client, next: str) -> None:
    entered = come_back(hosted, browser, enter(browser, begin(hosted, browser, next), "ada@example.com"))
    assert entered.headers["location"] == "/console/"


def test_unknown_providers_are_not_found(hosted: Hosted, browser: httpx.Client) -> None:
    assert browser.get(f"{hosted.url}/console/api/login/other").status_code == 404
