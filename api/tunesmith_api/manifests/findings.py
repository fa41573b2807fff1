"""Findings about manifests: where, what is wrong, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """Where an object is written.

    Attributes:
        file: The file.
        line: Line of its first field, from 1.
    """

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Finding:
    """A fault that must be corrected before anything can run.

    Attributes:
        file: The file or folder that was given.
        line: Line in the file, from 1; 0 for the whole file.
        field: Path of the field, like `spec.dataset.sources[0].uri`; empty if no field is concerned.
        message: What is wrong.
        remedy: What to do about it.
    """

    file: Path
    line: int
    field: str
    message: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else f"{self.file}"
        return ": ".join(part for part in (where, self.field, f"{self.message}; {self.remedy}") if part)


@dataclass(frozen=True)
class Ignored:
    """A document that is not of this API, such as a Secret. It is mentioned, but not an error.

    Attributes:
        file: The file.
        line: Line in the file, from 1.
        message: What is done with it.
    """

    file: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"
