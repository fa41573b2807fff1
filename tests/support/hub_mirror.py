"""A small mirror of the Hugging Face hub: a folder of models, served by the hub's own protocol on loopback.

`HubMirror(folder)` serves `folder/ORG/NAME/` as the model ORG/NAME at one commit, and `folder/datasets/ORG/NAME/` as a
data set; give its `endpoint` to a child
process as HF_ENDPOINT (the client reads it when it is imported).
"""

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

from support.loopback_server import LoopbackServer, QuietHandler


class HubMirror(LoopbackServer):
    """The mirror's state: change it while it runs to make it fail.

    Attributes:
        commit: The commit that every model is at.
        refs: Branches and tags that mean this commit.
        token: The token that must be sent, if any.
        gated: Whether access is refused even with a token.
        status: An HTTP status that answers every request, for a hub that is down.
        cuts: How many of the next file downloads are cut off in the middle.
        requests: `METHOD path` of all requests so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commit = "0123456789abcdef0123456789abcdef01234567"
        self.refs = {"main", "v1"}
        self.token: str | None = None
        self.gated = False
        self.status: int | None = None
        self.cuts = 0
        self.requests: list[str] = []
        super().__init__(_Handler)


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    owner: HubMirror

    def do_GET(self) -> None:
        mirror, path = self.owner, unquote(urlsplit(self.path).path)
        mirror.requests.append(f"{self.command} {path}")
        api = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?(?:/.*)?", path)
        file = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        match = api or file
        folder = mirror.folder
        if match is not None:
            folder = folder / ("datasets" if (match[1] or "").startswith("datasets") else "") / match[2]
        if mirror.status is not None:
            return self._answer(mirror.status, {"error": "out of order"})
        if match is None or not folder.is_dir():
            return self._refuse(401 if mirror.token else 404, "RepoNotFound")
        if mirror.token and self.headers.get("Authorization") != f"Bearer {mirror.token}":
            return self._refuse(401, "RepoNotFound")
        if mirror.gated:
            return self._refuse(403, "GatedRepo")
        revision = (match[4] if api else match[3]) or "main"
        if revision != mirror.commit and revision not in mirror.refs:
            return self._refuse(404, "RevisionNotFound")
        if file:
            return self._file(folder / file[4])
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        if match[3] == "tree":
            return self._answer(200, [_entry(folder, p) for p in files])
        siblings = [{"rfilename": p.relative_to(folder).as_posix()} for p in files]
        return self._answer(200, {"id": match[2], "sha": mirror.commit, "siblings": siblings, "tags": []})

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, {"error": code}, {"X-Error-Code": code, "X-Error-Message": code})

    def _answer(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _file(self, path: Path) -> None:
        if not path.is_file():
            return self._refuse(404, "EntryNotFound")
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        headers = {"ETag": f'"{digest}"', "X-Repo-Commit": self.owner.commit, "Accept-Ranges": "bytes"}
        requested = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not requested:
            return self._send(200, data, headers, cut=True)
        start, end = int(requested[1]), int(requested[2] or len(data) - 1) + 1
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        return self._send(206, data[start:end], headers, cut=True)

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
        cut = cut and self.command == "GET" and self.owner.cuts > 0 and len(body) > 10_000
        self.owner.cuts -= cut
        self.send(status, body, headers, cut=cut)


def _entry(folder: Path, path: Path) -> dict[str, object]:
    data = path.read_bytes()
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return {"type": "file", "path": path.relative_to(folder).as_posix(), "size": len(data), "oid": oid}
