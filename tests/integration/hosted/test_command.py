"""`tunesmith hosted`: the first start, its commands, and how it stops."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

KEY = re.compile(r"sk-ts-[0-9a-f]{18}-[\w-]{43}")


def hosted(folder: Path, *arguments: str, url: str | None = None, code: int = 0) -> str:
    result = subprocess.run(_command(arguments), cwd=folder, env=_environment(url), capture_output=True, text=True)
    assert result.returncode == code, result.stderr
    return result.stdout + result.stderr


@contextmanager
def serving(folder: Path, url: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """Serve on a free port: the URL of its API, and the lines that came before it was ready."""
    command = _command(("serve", "--port", "0"))
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=_environment(url), stdout=-1, stderr=log, text=True)
    lines: list[str] = []
    try:
        for line in process.stdout or ():
            lines.append(line.strip())
            if found := re.match(r"Serving at (\S+);", line):
                yield found[1], lines
                break
        else:
            raise AssertionError((folder / "log").read_text())
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0, (folder / "log").read_text()
        process.stdout and process.stdout.close()


def status(base_url: str, key: str) -> int:
    return httpx.get(base_url.removesuffix("/v1") + "/healthz", headers={"Authorization": f"Bearer {key}"}).status_code


def test_the_first_start_gives_a_key_once(tmp_path: Path) -> None:
    with serving(tmp_path) as (base_url, lines):
        found = re.fullmatch(r"base_url=(\S+) api_key=(\S+)", lines[-2])
        assert found and found[1] == base_url and KEY.fullmatch(found[2])
        key = found[2]
        assert status(base_url, key) == 200
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes(), path
    with serving(tmp_path) as (base_url, lines):
        assert len(lines) == 1
        assert status(base_url, key) == 200
        other = KEY.search(hosted(tmp_path, "keys", "create", "default", "--name", "mine"))
        assert other and status(base_url, other[0]) == 200
        listed = [line.split() for line in hosted(tmp_path, "keys", "list").splitlines()]
        assert [line[1:4] for line in listed] == [["local/default", name, "valid"] for name in ("'first'", "'mine'")]
        assert "revoked" in hosted(tmp_path, "keys", "revoke", listed[1][0])
    with serving(tmp_path) as (base_url, lines):
        assert (status(base_url, key), status(base_url, other[0])) == (200, 401)


def test_a_cluster_is_migrated_by_a_command(tmp_path: Path, postgres_url: str) -> None:
    """Replicas start at once, and may be of several versions: none of them changes the tables."""
    said = hosted(tmp_path, "serve", "--port", "0", url=postgres_url, code=1)
    assert "tunesmith hosted migrate" in said and "Traceback" not in said
    assert "revision" in hosted(tmp_path, "migrate", url=postgres_url)
    assert "project proj_" in hosted(tmp_path, "projects", "create", "acme/research", url=postgres_url)
    assert "acme/research active" in hosted(tmp_path, "projects", "list", url=postgres_url)
    assert KEY.search(hosted(tmp_path, "keys", "create", "acme/research", url=postgres_url))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("keys", "create", "nowhere"), "there is no project nowhere; `tunesmith hosted projects list`"),
        (("keys", "create", "default", "--scopes", "files,all"), "there is no scope all; write some of admin"),
        (("keys", "revoke", "key_1"), "there is no key key_1"),
        (("projects", "create", "Research"), "must be lower-case letters"),
        (("migrate",), "postgresql"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    url = "postgresql://nobody:secret-word@127.0.0.1:1/none" if arguments == ("migrate",) else None
    said = hosted(tmp_path, *arguments, url=url, code=1)
    assert says in said or (url and "cannot be used" in said)
    assert "Traceback" not in said and "secret-word" not in said


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [str(Path(sys.executable).parent / "tunesmith"), "hosted", *arguments]


def _environment(url: str | None) -> dict[str, str]:
    cluster = {"TUNESMITH_HOSTED_DATABASE": url, "TUNESMITH_HOSTED_BACKEND": "cluster"} if url else {}
    return {**os.environ, **cluster}
