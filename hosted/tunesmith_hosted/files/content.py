"""A content on its way into the store: written, counted and hashed."""

from __future__ import annotations

import hashlib

from tunesmith_hosted.files.inspection import Inspection
from tunesmith_hosted.files.store import CHUNK, Store


class Content:
    """Writes a content. All methods block.

    Args:
        store: Where it is written.
        path: Its path there, which no other content has.

    Attributes:
        path: Its path.
        size: Bytes so far.
        inspection: What is found in it.
    """

    def __init__(self, store: Store, path: str) -> None:
        self.path = path
        self.size = 0
        self.inspection = Inspection()
        self._store = store
        self._writer = store.writer(path)
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    @property
    def sha256(self) -> str:
        """SHA-256 of what was written, in hexadecimal."""
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        """MD5 of what was written, in hexadecimal."""
        return self._md5.hexdigest()

    def write(self, data: bytes) -> None:
        """Write the next bytes."""
        self._writer.write(data)
        self.size += len(data)
        self._sha256.update(data)
        self._md5.update(data)
        self.inspection.feed(data)

    def append(self, path: str) -> None:
        """Write another content of the store, of which a small piece is held at a time."""
        with self._store.reader(path) as source:
            while data := source.read(CHUNK):
                self.write(data)

    def commit(self) -> None:
        """Make it appear, as a whole."""
        self.inspection.finish()
        self._writer.commit()

    def discard(self) -> None:
        """Leave nothing behind."""
        self._writer.discard()
