"""Results of long runs, kept by a digest of the code that they were found with, so that a run can be broken off."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from support.source_tree import ROOT


def code_digest(folders: Iterable[str], files: Iterable[Path]) -> str:
    """Return a digest of what results depend on: pinned libraries, the Python files of folders, and further files.

    Args:
        folders: Folders below the repository's root.
        files: Further files.
    """
    found = hashlib.sha256()
    paths = {ROOT / "constraints.txt", *files}
    paths.update(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    for path in sorted(paths):
        found.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


class KeptResults:
    """A file with results, written after each of them: `{part: {key: {what: value, code: {what: digest}}}}`."""

    def __init__(
        self, source: Path, code: str, order: dict[str, list[str]], *, again: bool = False, write: bool = True
    ) -> None:
        """Read what is there.

        Args:
            source: The file.
            code: Digest of the code; see `code_digest`.
            order: The keys of each part, in the order in which they are written. Others are left out.
            again: Whether nothing that is there counts as current.
            write: Whether the file is written.
        """
        self._source = source
        self._code = code
        self._order = order
        self._again = again
        self._write = write
        self._seen: set[tuple[str, str, str]] = set()
        self.values: dict[str, Any] = {"setup": {}, **{part: {} for part in order}}
        if source.exists():
            self.values |= json.loads(source.read_text())

    def current(self, part: str, key: str, what: str) -> bool:
        """Return whether a result is there and was found with this code."""
        found = self.values[part].get(key, {})
        code = found.get("code", {}).get(what) if isinstance(found.get("code"), dict) else None
        return what in found and code == self._code and (not self._again or (part, key, what) in self._seen)

    def keep(self, part: str, key: str, what: str, value: Any) -> None:
        """Keep a result."""
        entry = self.values[part].setdefault(key, {})
        entry[what] = value
        entry.setdefault("code", {})[what] = self._code
        self._seen.add((part, key, what))
        self.save()

    def save(self) -> None:
        """Write the file, in an order that does not depend on that of the runs."""
        for part, names in self._order.items():
            self.values[part] = {name: self.values[part][name] for name in names if name in self.values[part]}
        if self._write:
            self._source.write_text(json.dumps(self.values, indent=1) + "\n")
