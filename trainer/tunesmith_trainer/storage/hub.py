"""Downloads files of a repository on the Hugging Face hub, or on a mirror of it (HF_ENDPOINT), at one commit.

The hub's own client begins a file anew when it was killed. So files are fetched here by the client's own requests, into
a file that is kept: what has come of it is not sent again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO, cast

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.runtime.background import Proceed, run_together
from tunesmith_trainer.storage.downloads import Total, left_of, require_space, stoppable
from tunesmith_trainer.storage.files import read_json, sha256_file, write_json
from tunesmith_trainer.storage.filesystems import Report
from tunesmith_trainer.storage.hub_errors import HubKind, translate_hub_errors

log = logging.getLogger(__name__)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_BLOB = re.compile(r"[0-9a-f]{40}")


def _endpoint() -> str | None:
    """Return the URL of the mirror that replaces the hub, if one is set."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


@dataclass(frozen=True)
class HubRepository:
    """A repository on the hub.

    Attributes:
        uri: Its name in messages.
        name: ORGANISATION/NAME.
        kind: Whether it holds a model or a data set.
    """

    uri: str
    name: str
    kind: HubKind

    def commit(self, revision: str | None) -> str:
        """Return the commit that a revision is at the moment.

        Raises:
            StageError: There is no such repository or revision, or the hub cannot be reached.
        """
        commit = self._info(revision, revision or "main").sha
        if not commit:
            raise StageError(Reason.SOURCE_UNAVAILABLE, f"{self.uri}: the hub names no commit", "Try again later")
        log.info("%s: revision %s is commit %s", self.uri, revision or "main", commit)
        return str(commit)

    def pinned_commit(self, revision: str | None, record: Path) -> str:
        """Return the commit of a revision. It is recorded in a file, so that a second run takes the same files.

        Raises:
            StageError: As `commit`.
        """
        pinned = read_json(record)
        if pinned is None:
            pinned = {"uri": self.uri, "revision": self.commit(revision)}
            write_json(record, pinned)
        return str(pinned["revision"])

    def files(self, commit: str) -> list[str]:
        """Return the paths of all files, sorted."""
        return sorted(sibling.rfilename for sibling in self._info(commit, commit).siblings or [])

    def _info(self, revision: str | None, shown: str) -> Any:  # noqa: ANN401 - ModelInfo or DatasetInfo
        from huggingface_hub import HfApi

        with translate_hub_errors(self.uri, self.kind, shown):
            return HfApi(endpoint=_endpoint()).repo_info(self.name, revision=revision, repo_type=self.kind.type)

    def download(
        self,
        commit: str,
        files: Sequence[str],
        folder: Path,
        report: Report | None = None,
    ) -> None:
        """Download files into a folder, several at a time. Files that are there are kept.

        Args:
            commit: The commit.
            files: Their paths.
            folder: The folder.
            report: Called repeatedly with the bytes so far and in total. If it raises an error, the downloads stop.

        Raises:
            StageError: A file cannot be downloaded, or is not what the hub says it is.
        """
        left = [file for file in files if not (folder / file).exists()]
        found: dict[str, _Metadata] = {}

        def ask(file: str, proceed: Proceed) -> None:
            proceed()
            found[file] = self._metadata(commit, file)

        def fetch(file: str, proceed: Proceed) -> None:
            self._fetch(commit, file, folder / file, found[file], stoppable(total.of(file), proceed))

        run_together([partial(ask, file) for file in left])
        sizes = {file: found[file].size or 0 for file in left}
        require_space(
            folder, sum(left_of(sizes[file], folder / file, found[file].part(folder / file)) for file in left)
        )
        total = Total(report, sum(sizes.values()))
        run_together([partial(fetch, file) for file in left])

    def _metadata(self, commit: str, file: str) -> _Metadata:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        url = hf_hub_url(self.name, file, repo_type=self.kind.type, revision=commit, endpoint=_endpoint())
        with translate_hub_errors(self.uri, self.kind, commit):
            found = get_hf_file_metadata(url, endpoint=_endpoint(), retry_on_errors=True)
        return _Metadata(url, found.etag or "", found.size)

    def _fetch(self, commit: str, file: str, target: Path, metadata: _Metadata, report: Report) -> None:
        """Download one file, or the rest of it."""
        from huggingface_hub import get_token, try_to_load_from_cache
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
        target.parent.mkdir(parents=True, exist_ok=True)
        part = metadata.part(target)
        cached = try_to_load_from_cache(self.name, file, revision=commit, repo_type=self.kind.type)
        with translate_hub_errors(self.uri, self.kind, commit):
            if isinstance(cached, str):
                shutil.copyfile(cached, part)
            else:
                with part.open("r+b" if part.exists() else "w+b") as output:
                    done = output.seek(0, os.SEEK_END)
                    if done:
                        log.info("%s/%s: going on after %d of %s bytes", self.uri, file, done, metadata.size or "?")
                    http_get(
                        metadata.url,
                        cast(BinaryIO, _Reporting(output, report, metadata.size)),
                        resume_size=done,
                        headers={"Authorization": f"Bearer {token}"} if (token := get_token()) else {},
                        expected_size=metadata.size,
                    )
        if not metadata.is_of(part):
            part.unlink()
            raise StageError(
                Reason.SOURCE_UNAVAILABLE,
                f"{self.uri}/{file}: what has come is not what the hub says it is (its digest is another)",
                "Run again: the file is fetched anew; if it happens again, look at the proxy or mirror between",
            )
        part.replace(target)


@dataclass(frozen=True)
class _Metadata:
    """What the hub says of a file.

    Attributes:
        url: Where it is.
        etag: Its digest: of large files their SHA-256, of others git's SHA-1.
        size: Its bytes; None if the hub does not say.
    """

    url: str
    etag: str
    size: int | None

    def part(self, target: Path) -> Path:
        """Return the file that holds what has come; it is named after the version that it is of."""
        version = hashlib.sha256(self.etag.encode()).hexdigest()[:16]
        return target.with_name(f".{target.name}.{version}.part")

    def is_of(self, path: Path) -> bool:
        """Return whether a file is this one, as far as the hub says."""
        if self.size is not None and path.stat().st_size != self.size:
            return False
        if _SHA256.fullmatch(self.etag):
            return sha256_file(path) == self.etag
        if _GIT_BLOB.fullmatch(self.etag):
            data = path.read_bytes()
            return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == self.etag
        return True


class _Reporting(BufferedIOBase):
    """A file that reports what is written to it."""

    def __init__(self, file: BinaryIO, report: Report, size: int | None) -> None:
        self._file, self._report, self._size = file, report, size

    def write(self, data: Any) -> int:  # noqa: ANN401 - any bytes
        written = self._file.write(data)
        self._report(self._file.tell(), self._size)
        return written

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        return self._file.truncate(size)


def dataset_card(repository: HubRepository, commit: str, folder: Path) -> Mapping[str, Any]:
    """Return the metadata in a data set's README.md, which is downloaded into a folder."""
    from huggingface_hub import metadata_load

    repository.download(commit, ["README.md"], folder)
    try:
        return metadata_load(folder / "README.md") or {}
    except Exception as error:  # whatever the YAML library raises
        problem = " ".join(str(error).split())[:200]
        raise StageError(
            Reason.INVALID_DATASET,
            f"{repository.uri}: the metadata in README.md is broken: {problem}",
            "Name a file of it instead",
        ) from error
