"""A small mirror of the Hugging Face hub: a folder of models, served by the hub's own protocol on loopback.

`HubMirror(folder)` serves `folder/ORG/NAME/` as the model ORG/NAME at one commit; give its `endpoint` to a child
process as HF_ENDPOINT (the client reads it when it is imported).
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class HubMirror:
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
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"mirror": self}))
        self._server.daemon_threads = True

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def serving(self) -> Iterator["HubMirror"]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    mirror: HubMirror
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        mirror, path = self.mirror, unquote(urlsplit(self.path).path)
        mirror.requests.append(f"{self.command} {path}")
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?(?:/.*)?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        match = api or file
        if mirror.status is not None:
            return self._answer(mirror.status, {"error": "out of order"})
        if match is None or not (mirror.folder / match[1]).is_dir():
            return self._refuse(401 if mirror.token else 404, "RepoNotFound")
        if mirror.token and self.headers.get("Authorization") != f"Bearer {mirror.token}":
            return self._refuse(401, "RepoNotFound")
        if mirror.gated:
            return self._refuse(403, "GatedRepo")
        revision = (match[3] if api else match[2]) or "main"
        if revision != mirror.commit and revision not in mirror.refs:
            return self._refuse(404, "RevisionNotFound")
        folder = mirror.folder / match[1]
        if file:
            return self._file(folder / file[3])
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        if match[2] == "tree":
            return self._answer(200, [_entry(folder, p) for p in files])
        siblings = [{"rfilename": p.relative_to(folder).as_posix()} for p in files]
        return self._answer(200, {"id": match[1], "sha": mirror.commit, "siblings": siblings, "tags": []})

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, {"error": code}, {"X-Error-Code": code, "X-Error-Message": code})

    def _answer(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _file(self, path: Path) -> None:
        if not path.is_file():
            return self._refuse(404, "EntryNotFound")
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        headers = {"ETag": f'"{digest}"', "X-Repo-Commit": self.mirror.commit, "Accept-Ranges": "bytes"}
        requested = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not requested:
            return self._send(200, data, headers, cut=True)
        start, end = int(requested[1]), int(requested[2] or len(data) - 1) + 1
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        return self._send(206, data[start:end], headers, cut=True)

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut and self.mirror.cuts > 0 and len(body) > 10_000:
            self.mirror.cuts -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)


def _entry(folder: Path, path: Path) -> dict[str, object]:
    data = path.read_bytes()
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return {"type": "file", "path": path.relative_to(folder).as_posix(), "size": len(data), "oid": oid}
