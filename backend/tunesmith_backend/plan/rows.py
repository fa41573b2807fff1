"""Estimates how many rows a job has and how long they are, from files that are at hand, in a fraction of a second."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.planner import DataShape
from tunesmith_api.spec import DatasetSource, TrainingJobSpec

ConfigMaps = Mapping[tuple[str, str], Mapping[str, bytes]]

_SAMPLE = 8 << 20  # bytes that are read of a file; the rest is taken to be like them
_BYTES_OF_A_TOKEN = 4.0  # of JSON with English text, whose keys are about what a chat template adds
_LINES, _TABLES = (".jsonl", ".ndjson"), (".csv", ".tsv")
_GLOB = "*?["


@dataclass(frozen=True)
class RowEstimate:
    """The rows that a job trains on, estimated.

    Attributes:
        rows: Number of rows; None if it is not known.
        longest: Tokens of the longest row, at most maxLength.
        mean: Tokens of a row on average.
        note: How it is known, as a phrase.
    """

    rows: int | None
    longest: int
    mean: float
    note: str

    @property
    def shape(self) -> DataShape:
        """The rows as the planner takes them."""
        return DataShape(self.rows, self.longest, self.mean)


def estimate_rows(spec: TrainingJobSpec, config_maps: ConfigMaps, namespace: str) -> RowEstimate:
    """Return an estimate of the rows that a job trains on.

    Args:
        spec: The job, with absolute paths.
        config_maps: The ConfigMaps that are known.
        namespace: The job's namespace.
    """
    limit = spec.training.max_length
    lengths: list[int] = []
    rows, is_whole = 0.0, True
    for source in spec.dataset.sources:
        if source.config_map_key_ref is not None:
            ref = source.config_map_key_ref
            data = config_maps.get((namespace, ref.name), {}).get(ref.key)
            contents = [(ref.key, data, len(data))] if data is not None else []
        else:
            contents = [(path.name, _head(path), path.stat().st_size) for path in _files(source)]
        counted = [_count(name, head, size) for name, head, size in contents]
        if not counted or None in counted:
            name = source.uri or (source.config_map_key_ref.name if source.config_map_key_ref else "")
            return RowEstimate(None, limit, limit, f"the rows of {name} are not counted; each is taken as maxLength")
        for count in filter(None, counted):
            rows += count.rows
            lengths += count.lengths
            is_whole = is_whole and count.is_whole
    fraction = spec.dataset.validation.fraction
    total = max(1, round(rows))
    train = total - (min(max(1, round(total * fraction)), total - 1) if fraction else 0)
    tokens = [min(limit, max(1, round(length / _BYTES_OF_A_TOKEN))) for length in lengths] or [limit]
    note = f"tokens estimated at {_BYTES_OF_A_TOKEN:g} bytes each"
    if not is_whole:
        note = f"rows estimated from the first {_SAMPLE >> 20} MiB of a file, {note}"
    return RowEstimate(max(1, train), max(tokens), sum(tokens) / len(tokens), note)


@dataclass(frozen=True)
class _Count:
    """The rows of a file.

    Attributes:
        rows: Their number, extrapolated from the part that was read.
        lengths: Bytes of each row that was read.
        is_whole: Whether all of it was read.
    """

    rows: float
    lengths: list[int]
    is_whole: bool


def _files(source: DatasetSource) -> list[Path]:
    """Return the local files of a source; none if it is not on this machine."""
    uri = (source.uri or "").removeprefix("file://")
    if "://" in uri:
        return []
    path = Path(uri).expanduser()
    if path.is_file():
        return [path]
    folder, pattern = (path, "*") if path.is_dir() else (path.parent, path.name)
    if not any(sign in pattern for sign in _GLOB) or not folder.is_dir():
        return []
    return sorted(file for file in folder.glob(pattern) if file.is_file() and not file.name.startswith("."))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_SAMPLE)


def _count(name: str, head: bytes, size: int) -> _Count | None:
    """Return the rows of a file, or None if they cannot be counted cheaply.

    Args:
        name: Its name, whose ending says how it is read.
        head: Its first bytes.
        size: Bytes of the whole file.
    """
    ending = Path(name).suffix.lower()
    whole = len(head) >= size
    if ending in _LINES:
        lines = [len(line) for line in head.split(b"\n") if line.strip()]
    elif ending in _TABLES:
        lines = list(_table_rows(head, "\t" if ending == ".tsv" else ","))
    elif ending == ".json" and whole:
        lines = _array_rows(head)
    else:
        return None
    if not whole:
        lines = lines[:-1]  # cut off
    if not lines:
        return None
    return _Count(len(lines) if whole else len(lines) * size / max(1, sum(lines) + len(lines)), lines, whole)


def _table_rows(head: bytes, delimiter: str) -> Iterator[int]:
    """Yield the bytes of each row of a table; its first row names the columns."""
    reader = csv.reader(head.decode("utf-8", "replace").splitlines(keepends=True), delimiter=delimiter)
    try:
        next(reader, None)
        for row in reader:
            if any(row):
                yield sum(len(cell.encode()) + 1 for cell in row)
    except csv.Error:
        return


def _array_rows(data: bytes) -> list[int]:
    """Return the bytes of each row of a JSON array of rows; none if it is something else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return [len(line) for line in data.split(b"\n") if line.strip()] if data.lstrip()[:1] == b"{" else []
    rows = value if isinstance(value, list) else []
    return [len(json.dumps(row, ensure_ascii=False).encode()) for row in rows]
