"""Finds the files that are manifests and reads their text."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.manifests.findings import Finding

ENDINGS = (".yaml", ".yml", ".json")
MAX_BYTES = 16 << 20
STDIN = Path("-")
"""Stands for standard input among the files that a command is given."""


def manifest_files(paths: Iterable[Path], findings: list[Finding]) -> list[Path]:
    """Return the given files and the files in the given folders, each once.

    Like `kubectl apply -f`, it takes the files directly in a folder, by their endings.
    """
    files: dict[Path, Path] = {}
    for path in paths:
        try:
            if path.is_dir():
                found = sorted(file for file in path.iterdir() if file.suffix in ENDINGS and file.is_file())
                if not found:
                    findings.append(
                        Finding(path, 0, "", "the folder holds no *.yaml, *.yml or *.json file", "name another folder")
                    )
            elif path.exists():
                found = [path]
            else:
                findings.append(Finding(path, 0, "", "there is no such file or folder", "correct the path"))
                continue
        except (OSError, ValueError) as error:
            findings.append(Finding(path, 0, "", f"cannot be read ({_why(error)})", "correct the path or its rights"))
            continue
        for file in found:
            files.setdefault(file.resolve(), file)
    return list(files.values())


@dataclass(frozen=True)
class Document:
    """A manifest file as text, wherever it came from.

    Attributes:
        path: Its name in findings. Relative paths in it start at the parent folder.
        text: Its content: one or more YAML documents, or JSON.
    """

    path: Path
    text: str


def read_files(paths: Iterable[Path], findings: list[Finding]) -> Iterator[Document]:
    """Yield the documents of files and folders, and of standard input; faults are added to `findings`."""
    paths = list(paths)
    for file in manifest_files((path for path in paths if path != STDIN), findings):
        text = read_text(file, findings)
        if text is not None:
            yield Document(file, text)
    if STDIN in paths:
        name = Path("stdin")  # relative paths in it start at the current folder
        text = _decode(name, sys.stdin.buffer.read(), findings)
        if text is not None:
            yield Document(name, text)


def read_text(file: Path, findings: list[Finding]) -> str | None:
    """Return the text of a file; None if it cannot be read, and why is then added to `findings`."""
    try:
        if (finding := too_large(file, file.stat().st_size)) is not None:
            findings.append(finding)
            return None
        data = file.read_bytes()
    except OSError as error:
        findings.append(Finding(file, 0, "", f"cannot be read ({_why(error)})", "correct the path or its rights"))
        return None
    return _decode(file, data, findings)


def _decode(file: Path, data: bytes, findings: list[Finding]) -> str | None:
    """Return the text of a file's bytes; None if it is no text in UTF-8, and why is then added to `findings`."""

    def refuse(line: int, message: str, remedy: str) -> None:
        findings.append(Finding(file, line, "", message, remedy))

    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        refuse(0, "is written in UTF-16", "write it in UTF-8 (save as UTF-8 in your editor)")
        return None
    data = data.removeprefix(b"\xef\xbb\xbf")
    if (zero := data.find(b"\0")) >= 0:
        refuse(data.count(b"\n", 0, zero) + 1, "is a binary file", "name a YAML or JSON file")
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        refuse(line, f"holds the byte 0x{data[error.start]:02x}, which is not UTF-8", "write it in UTF-8")
        return None


def too_large(file: Path, size: int) -> Finding | None:
    """Return a finding if a manifest of `size` bytes is too large."""
    if size <= MAX_BYTES:
        return None
    message = f"is {size / 2**20:.0f} MiB, more than any manifest"
    return Finding(file, 0, "", message, "keep large data in files of their own")


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
