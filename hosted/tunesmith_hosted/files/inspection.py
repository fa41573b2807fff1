"""A first look at the content of a file to train on; a job validates all of it."""

from __future__ import annotations

import codecs
import json

HEAD_BYTES = 1 << 20
HEAD_LINES = 10


class Inspection:
    """Looks at a content while it is written: whether it is UTF-8, and whether its first lines are JSON objects.

    Attributes:
        error: What is wrong, with the line; None so far.
    """

    def __init__(self) -> None:
        self.error: str | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._lines = 1
        self._head = b""
        self._head_open = True

    def feed(self, data: bytes) -> None:
        """Look at the next bytes."""
        if self.error is not None:
            return
        try:
            self._decoder.decode(data)
        except UnicodeDecodeError as error:
            line = self._lines + data.count(b"\n", 0, error.start)
            self.error = f"Line {line}: the file must be UTF-8; {error.reason} was found"
            return
        self._lines += data.count(b"\n")
        if self._head_open:
            self._head += data[: HEAD_BYTES - len(self._head)]
            if len(self._head) == HEAD_BYTES or self._head.count(b"\n") >= HEAD_LINES:
                self._check_head(whole=False)

    def finish(self) -> None:
        """Look at the end."""
        if self.error is not None:
            return
        try:
            self._decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            self.error = f"Line {self._lines}: the file must be UTF-8; it ends in the middle of a character"
            return
        if self._head_open:
            self._check_head(whole=True)

    def _check_head(self, *, whole: bool) -> None:
        self._head_open = False
        lines = self._head.removeprefix(codecs.BOM_UTF8).split(b"\n")
        if not whole:
            lines.pop()  # its rest has not come
        self._head = b""
        if whole and not any(line.strip() for line in lines):
            self.error = "The file is empty; write one JSON object a line"
            return
        for number, line in enumerate(lines[:HEAD_LINES], start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                self.error = f"Line {number}: not JSON ({error}); write one JSON object a line"
                return
            if not isinstance(value, dict):
                self.error = f'Line {number}: a JSON object is wanted, such as {{"messages": [...]}}'
                return
