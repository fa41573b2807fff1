"""The store of files' contents. Its functions block: `threads.in_thread` calls them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from tunesmith_hosted.database.tables import File
from tunesmith_hosted.files.filesystems import open_filesystem, open_to_read
from tunesmith_hosted.http.context import Context

CHUNK = 1 << 20
"""Bytes that are held of a content at a time."""

_REMOTE_BLOCK = 8 << 20
PARTIAL = ".partial"
"""Folder of what is being written, or was when a process was killed; its paths are those of the contents."""


class StoreError(Exception):
    """The store cannot do what it was asked for. The message is for users: it names no place."""


class ContentGoneError(StoreError):
    """The store answers, and no longer has a content; trying again is of no use."""


class Store:
    """Contents by path, below a folder or in an object store.

    Args:
        uri: `settings.files`: a folder, or a URI.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri.rstrip("/")
        self._files, self._root = open_filesystem(self._uri)
        self._folder = Path(self._root) if "file" in _protocols(self._files) else None

    def writer(self, path: str) -> Writer:
        """Return what writes a content; it is there only after `commit`.

        Raises:
            StoreError: The store takes nothing.
        """
        with _translated():
            if self._folder is not None:
                return _LocalWriter(self._partial(path), self._folder / path)
            return _RemoteWriter(self._files, f"{self._root}/{path}")

    @contextmanager
    def reader(self, path: str) -> Iterator[BinaryIO]:
        """Open a content.

        Raises:
            ContentGoneError: It is not there.
            StoreError: The store does not answer.
        """
        with _translated():
            try:
                opened = open_to_read(self._files, f"{self._root}/{path}")
            except FileNotFoundError as error:
                if self._folder is not None and not self._folder.is_dir():
                    raise  # a volume that is not mounted, and may come back
                raise ContentGoneError("The content of this file is gone; upload it again") from error
            with opened:
                yield opened

    def remove(self, path: str) -> None:
        """Remove a content, and what an interrupted write has left of it; nothing happens if there is none.

        Raises:
            StoreError: The store does not answer.
        """
        with _translated():
            if self._folder is not None:
                self._partial(path).unlink(missing_ok=True)
                (self._folder / path).unlink(missing_ok=True)
            else:
                with suppress(FileNotFoundError):
                    self._files.rm_file(f"{self._root}/{path}")

    def paths(self) -> list[str]:
        """Return the paths of all contents, and of what interrupted writes have left.

        Raises:
            StoreError: The store does not answer.
        """
        with _translated():
            root = str(self._root).strip("/")
            found = self._files.find(self._root) if self._files.exists(self._root) else []
            return sorted(str(path).strip("/").removeprefix(root).strip("/") for path in found)

    def uri(self, path: str) -> str:
        """Return where a content is: a path on this machine, or a URI."""
        return str(self._folder / path) if self._folder is not None else f"{self._uri}/{path}"

    def _partial(self, path: str) -> Path:
        assert self._folder is not None  # noqa: S101 (for the type checker)
        return self._folder / PARTIAL / path


class Writer:
    """Writes a content. `discard` may be called at any time, also from another thread."""

    _file: Any

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        """Write the next bytes.

        Raises:
            StoreError: The store takes nothing more.
        """
        with self._lock, _translated():
            self._file.write(data)

    def commit(self) -> None:
        """Make the content appear, as a whole.

        Raises:
            StoreError: The store has not taken it.
        """
        raise NotImplementedError

    def discard(self) -> None:
        """Leave nothing behind, as far as the store lets."""
        raise NotImplementedError


class _LocalWriter(Writer):
    def __init__(self, partial: Path, path: Path) -> None:
        super().__init__()
        self._partial, self._path = partial, path
        partial.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = partial.open("wb")

    def commit(self) -> None:
        with self._lock, _translated():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self._path)

    def discard(self) -> None:
        with self._lock:
            self._file.close()
            self._partial.unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)


class _RemoteWriter(Writer):
    """Object stores show a content only when all of it has come."""

    def __init__(self, files: Any, path: str) -> None:  # noqa: ANN401
        super().__init__()
        self._files, self._path = files, path
        self._file = files.open(path, "wb", block_size=_REMOTE_BLOCK)

    def commit(self) -> None:
        with self._lock, _translated():
            self._file.close()

    def discard(self) -> None:
        with self._lock, suppress(Exception):
            if hasattr(self._file, "discard"):
                self._file.discard()
                self._file.closed = True
            else:  # Arrow's files can only be closed
                self._file.close()
        with suppress(Exception):
            self._files.rm_file(self._path)


@cache
def _store(uri: str) -> Store:
    return Store(uri)


def store_of(context: Context) -> Store:
    """Return the store of a service."""
    return _store(context.settings.files)


def open_local(context: Context, file: File) -> str:
    """Return where a job reads a file: `uri` of a source of `spec.dataset`.

    It is a path on this machine if files are in a folder, which is what the local backend's jobs can read, and the
    object store's URI otherwise, which pods read with the credentials of their service account.

    Raises:
        StoreError: Jobs run on a cluster, and files are in a folder of this machine.
    """
    store = store_of(context)
    if context.settings.backend == "cluster" and "://" not in context.settings.files:
        raise StoreError(
            "pods cannot read files from a folder of the service; set `files` to s3://, abfs:// or gs:// where "
            "`backend` is cluster"
        )
    return store.uri(file.path)


def _protocols(files: Any) -> tuple[str, ...]:  # noqa: ANN401
    found = files.protocol
    return (found,) if isinstance(found, str) else tuple(found)


@contextmanager
def _translated() -> Iterator[None]:
    """Raise StoreError for what stores raise, which is of many types."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        raise StoreError("The store of files does not answer or takes nothing more; try again later") from error
