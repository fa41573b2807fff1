"""Dex, a real OpenID Connect provider, with people who have passwords; and a browser without a window."""

import base64
import html
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from cluster import binaries
from cluster.errors import CannotRunError, ClusterError
from support.operator import wait_until
from support.ports import free_port

CLIENT, SECRET = "console", "of-tests-only/with:signs"
PASSWORD = "password"
_BCRYPT = b"$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W"  # of PASSWORD
_HASH = base64.b64encode(_BCRYPT).decode()
PEOPLE = (("ada", "example.com", ["leads"]), ("bob", "example.com", []), ("eve", "elsewhere.example", ["others"]))


@dataclass(frozen=True)
class Dex:
    """A provider. `issuer` is the setting of the service."""

    issuer: str


@contextmanager
def dex(folder: Path, redirect_uris: list[str]) -> Iterator[Dex]:
    """Run a provider until the end of the context.

    Args:
        folder: For its configuration and log.
        redirect_uris: Where it may send people back to.
    """
    try:
        program = binaries.dex()
    except (CannotRunError, ClusterError) as error:
        pytest.skip(f"Dex cannot be built: {error}")
    address = f"127.0.0.1:{free_port()}"
    issuer = f"http://{address}/dex"
    settings = {
        "issuer": issuer,
        "address": address,
        "clients": [{"id": CLIENT, "secret": SECRET, "name": "Console", "redirectURIs": redirect_uris}],
        "people": [
            {"email": f"{name}@{domain}", "hash": _HASH, "username": name, "userID": f"id-of-{name}", "groups": groups}
            for name, domain, groups in PEOPLE
        ],
    }
    (folder / "dex.json").write_text(json.dumps(settings))
    with (folder / "dex.log").open("wb") as log:
        command = [program, folder / "dex.json"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until("Dex", lambda: process.poll() is not None or _answers(issuer))
        assert process.poll() is None, (folder / "dex.log").read_text()
        yield Dex(issuer)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(300)


def _answers(issuer: str) -> bool:
    try:
        return httpx.get(f"{issuer}/.well-known/openid-configuration").is_success
    except httpx.HTTPError:
        return False


def enter(browser: httpx.Client, url: str, email: str, password: str = PASSWORD) -> httpx.Response:
    """Go to where a service sends people to sign in, give the password there, and return where that leads.

    The last redirect, back to the service, is not followed.
    """
    page = browser.get(url)
    while page.is_redirect:
        page = browser.get(urljoin(str(page.url), page.headers["location"]))
    form = re.search(r'<form[^>]*action="([^"]*)"', page.text)
    assert form, page.text
    action = urljoin(str(page.url), html.unescape(form[1]))
    answer = browser.post(action, data={"login": email, "password": password})
    while answer.is_redirect and "/callback?" not in answer.headers["location"]:
        answer = browser.get(urljoin(str(answer.url), answer.headers["location"]))
    return answer
