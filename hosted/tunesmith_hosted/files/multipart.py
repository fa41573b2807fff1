"""Takes files out of multipart bodies as they come, holding a small piece at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from tunesmith_hosted.files.content import Content
from tunesmith_hosted.files.store import CHUNK
from tunesmith_hosted.files.threads import in_thread
from tunesmith_hosted.http.errors import ApiError

_MOST_FIELDS, _MOST_FIELD_BYTES = 50, 4096
FORM_BYTES = 64 << 10
"""Bytes that a body may have beside its file."""


class Form:
    """Splits a body into fields and one file.

    Args:
        content_type: The request's `Content-Type`.
        file_field: Name of the field that is the file.

    Attributes:
        fields: The fields so far.
        filename: Name of the file, None before it begins.
        piece: What has come of the file and was not taken.
        ended: Whether the body is complete.

    Raises:
        ApiError: It is not a multipart body.
    """

    def __init__(self, content_type: str, file_field: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise ApiError(400, "Send the file as multipart/form-data with a boundary", code="invalid_content_type")
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.piece = bytearray()
        self.ended = False
        self._file_field = file_field
        self._name = self._header = ""
        self._headers: dict[str, str] = {}
        self._value = bytearray()
        self._in_file = False
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the body.

        Raises:
            ApiError: They are not those of a form.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise ApiError(400, f"The body is not valid multipart/form-data: {error}", code="invalid_body") from None

    def take(self) -> bytes:
        """Return what has come of the file, once."""
        taken, self.piece = bytes(self.piece), bytearray()
        return taken

    def _begin(self) -> None:
        self._headers, self._header, self._value = {}, "", bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        if self._header in self._headers:  # its value has begun: this is the next header
            self._header = ""
        self._header += data[start:end].decode("latin-1").lower()
        if len(self._headers) > 16 or len(self._header) > 256:
            raise ApiError(400, "A part of the form has too many headers", code="invalid_body")

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        value = self._headers.get(self._header, "") + data[start:end].decode("latin-1")
        if len(value) > _MOST_FIELD_BYTES:
            raise ApiError(400, "A part of the form has a header that is too long", code="invalid_body")
        self._headers[self._header] = value

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", ""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._in_file = self._name == self._file_field
        if self._in_file:
            if self.filename is not None:
                raise ApiError(400, f"Send one {self._name} in a request", param=self._name, code="invalid_value")
            self.filename = options.get(b"filename", b"").decode("utf-8", "replace") or "upload"
        elif len(self.fields) >= _MOST_FIELDS:
            raise ApiError(400, f"Send at most {_MOST_FIELDS} fields", code="invalid_body")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self.piece += data[start:end]
            return
        self._value += data[start:end]
        if len(self._value) > _MOST_FIELD_BYTES:
            raise ApiError(400, f"{self._name} is longer than {_MOST_FIELD_BYTES} bytes", param=self._name)

    def _end_part(self) -> None:
        if not self._in_file:
            self.fields[self._name] = self._value.decode("utf-8", "replace")
        self._in_file = False

    def _end(self) -> None:
        self.ended = True


async def receive(
    request: Request, form: Form, most: int, start: Callable[[Form], Awaitable[Content]], param: str
) -> Content:
    """Write the file of a form into the store, not yet committed. If it does not come whole, nothing is left.

    Args:
        request: The request.
        form: Its form.
        most: The most bytes.
        start: Returns what is written to, once the file has begun.
        param: Name of the file's field, for errors.

    Raises:
        ApiError: The form is wrong, or the file is too large.
        ClientDisconnect: The client has gone.
    """
    too_large = ApiError(413, f"The file may have at most {most} bytes", param=param, code="file_too_large")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most + FORM_BYTES:
        raise too_large
    content: Content | None = None
    try:
        async for chunk in request.stream():
            form.feed(chunk)
            if form.filename is not None and (len(form.piece) >= CHUNK or form.ended):
                content = content or await start(form)
                if content.size + len(form.piece) > most:
                    raise too_large
                if data := form.take():
                    await in_thread(content.write, data)
        if not form.ended:
            raise ApiError(400, "The body ends before its last boundary; send it again", code="invalid_body")
        if content is None:
            message = f"Send the content as the field {param} of multipart/form-data"
            raise ApiError(400, message, param=param, code="missing_required_parameter")
    except BaseException:
        if content is not None:
            await asyncio.shield(in_thread(content.discard))
        raise
    return content
