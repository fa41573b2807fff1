"""An object store on loopback that speaks enough of S3 for Arrow's client, and serves the same objects by plain HTTP.

It keeps objects in memory and checks no signatures. `BUCKET/KEY` is the path by both protocols.
"""

import re
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from support.loopback_server import LoopbackServer, QuietHandler

XML = '<?xml version="1.0" encoding="UTF-8"?>\n'


class ObjectStore(LoopbackServer):
    """The store's state: change it while it runs to make it fail.

    Attributes:
        objects: The content of each `BUCKET/KEY`.
        order: The names in the order in which they were written.
        parts: The parts so far of the one upload in several parts that there can be at a time.
        status: An HTTP status that answers every request.
        cut: Whether downloads break off in the middle.
        gets: How many GET requests there were.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.order: list[str] = []
        self.parts: dict[int, bytes] = {}
        self.status: int | None = None
        self.cut = False
        self.gets = 0
        super().__init__(_Handler)


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    owner: ObjectStore

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.send(status, body, named, cut=self.owner.cut and status in (200, 206))

    def _error(self, status: int, code: str) -> None:
        self._send(status, f"{XML}<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _refused(self) -> bool:
        if self.owner.status is not None:
            codes = {403: "AccessDenied", 404: "NoSuchKey"}
            self._error(self.owner.status, codes.get(self.owner.status, "InternalError"))
        return self.owner.status is not None

    def do_GET(self) -> None:
        self.owner.gets += 1
        if self._refused():
            return None
        name, query = self._target()
        if "list-type" in query:
            return self._list(name, query)
        if "/" not in name:
            return self._send(200) if any(key.startswith(f"{name}/") for key in self.owner.objects) else self._missing()
        if name not in self.owner.objects:
            return self._missing()
        body = self.owner.objects[name]
        headers = {"ETag": '"e"', "Last_Modified": formatdate(0, usegmt=True), "Accept_Ranges": "bytes"}
        requested = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if self.command == "HEAD" or not requested:
            return self._send(200, body, **headers)
        start, end = int(requested[1]), min(int(requested[2] or len(body) - 1) + 1, len(body))
        return self._send(206, body[start:end], Content_Range=f"bytes {start}-{end - 1}/{len(body)}", **headers)

    def _missing(self) -> None:
        self._error(404, "NoSuchKey")

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        contents, folders = [], set()
        for name, body in sorted(self.owner.objects.items()):
            key = name.removeprefix(f"{bucket}/")
            if key == name or not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                stamp = "1970-01-01T00:00:00.000Z"
                contents.append(
                    f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size>"
                    f"<LastModified>{stamp}</LastModified></Contents>"
                )
        inside = "".join(contents) + "".join(
            f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in sorted(folders)
        )
        count = len(contents) + len(folders)
        head = f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{count}</KeyCount>"
        self._send(
            200,
            f"{XML}<ListBucketResult>{head}<IsTruncated>false</IsTruncated>{inside}</ListBucketResult>".encode(),
        )

    def do_PUT(self) -> None:
        body = self._body()
        if self._refused():
            return
        name, query = self._target()
        if "partNumber" in query:
            self.owner.parts[int(query["partNumber"][0])] = body
        else:
            self._keep(name, body)
        self._send(200, ETag='"e"')

    def do_POST(self) -> None:
        self._body()
        if self._refused():
            return
        name, query = self._target()
        if "uploads" in query:
            self.owner.parts = {}
            upload = "<UploadId>1</UploadId>"
            self._send(200, f"{XML}<InitiateMultipartUploadResult>{upload}</InitiateMultipartUploadResult>".encode())
        else:
            self._keep(name, b"".join(self.owner.parts[number] for number in sorted(self.owner.parts)))
            self._send(200, f"{XML}<CompleteMultipartUploadResult></CompleteMultipartUploadResult>".encode())

    def do_DELETE(self) -> None:
        if self._refused():
            return
        name, _ = self._target()
        self.owner.objects.pop(name, None)
        self._send(204)

    def _target(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        return unquote(parts.path).strip("/"), parse_qs(parts.query, keep_blank_values=True)

    def _keep(self, name: str, body: bytes) -> None:
        self.owner.objects[name] = body
        self.owner.order.append(name)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return body
        plain = b""
        while True:
            size, _, body = body.partition(b"\r\n")
            length = int(size.split(b";")[0], 16)
            if length == 0:
                return plain
            plain, body = plain + body[:length], body[length + 2 :]

    def _chunks(self) -> bytes:
        body = b""
        while length := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return body
