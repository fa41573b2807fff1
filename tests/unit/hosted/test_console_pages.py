"""The console's files: what browsers may do with them, what they keep, and which paths lead to the page itself."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from tunesmith_hosted.console import pages
from tunesmith_hosted.console.sign_in.attempts import safe_path


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    (tmp_path / "dist" / "assets").mkdir(parents=True)
    (tmp_path / "dist" / "index.html").write_text("<title>Console</title>")
    (tmp_path / "dist" / "assets" / "app-1a2b.js").write_text("one();" * 1000)
    (tmp_path / "secret").write_text("secret")
    return TestClient(Starlette(routes=[Mount("/console", pages.console_files(tmp_path / "dist"))]))


@pytest.mark.parametrize("path", ["/console/", "/console/jobs/ftjob-1", "/console/models/ft:tiny:acme::x.y"])
def test_paths_that_are_no_file_are_the_page(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.text) == (200, "<title>Console</title>")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-cache" and answer.headers["etag"]
    again = client.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304


def test_hashed_files_are_kept_for_good_and_sent_small(client: TestClient) -> None:
    answer = client.get("/console/assets/app-1a2b.js")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-encoding"] == "gzip" and int(answer.headers["content-length"]) < 200
    assert client.get("/console/assets/gone-2b.js").status_code == 404, "an old page must not run a page as a script"


def test_nothing_comes_from_elsewhere(client: TestClient) -> None:
    for path in ("/console/", "/console/assets/app-1a2b.js"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'self';") and "unsafe" not in policy and "*" not in policy
        assert "frame-ancestors 'none'" in policy
        assert client.get(path).headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/console/..%2fsecret", "/console/%2e%2e/secret", "/console/..%5csecret"])
def test_nothing_outside_the_folder_is_sent(client: TestClient, path: str) -> None:
    assert "secret" not in client.get(path).text


def test_the_api_is_no_page(client: TestClient) -> None:
    assert client.get("/console/api/nothing").status_code == 404
    assert client.post("/console/").status_code == 405


def test_a_console_that_is_not_built_says_how(tmp_path: Path) -> None:
    client = TestClient(Starlette(routes=[Mount("/console", pages.console_files(tmp_path / "none"))]))
    answer = client.get("/console/jobs")
    assert answer.status_code == 404 and "make console" in answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["//evil.example", "https://evil.example", "/v1/files", "/console/\\evil", "/console/api/x"]
)
def test_nobody_is_sent_elsewhere(path: str) -> None:
    assert safe_path(path) == "/console/"
    assert safe_path("/console/jobs?after=1") == "/console/jobs?after=1"
