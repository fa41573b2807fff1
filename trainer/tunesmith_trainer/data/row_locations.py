"""Where the rows of a token store come from: the file and the line, or the row's number in its file."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from tunesmith_api.local.files import read_json, write_json
from tunesmith_trainer.data.token_store import ArrayFile

_PLACES = "places.json"
_FILES = "row_files.npy"
_LINES = "row_lines.npy"


class RowLocationsWriter:
    """Writes the locations of a store's rows, 12 bytes a row. Use it as a context manager.

    Attributes:
        folder: The store's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files, self._lines = ArrayFile(folder / _FILES, np.int32), ArrayFile(folder / _LINES, np.int64)
        self._places: dict[str, int] = {}

    def add(self, location: str) -> None:
        """Add the location of the next row: `FILE:LINE` or `FILE: row N`."""
        place = location.rstrip("0123456789")
        self._files.extend(np.array([self._places.setdefault(place, len(self._places))]))
        self._lines.extend(np.array([int(location[len(place) :] or 0)]))

    def __enter__(self) -> RowLocationsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._files.close()
        self._lines.close()
        write_json(self.folder / _PLACES, list(self._places))


class RowLocations:
    """Reads them."""

    def __init__(self, places: list[str], files: npt.NDArray[np.int32], lines: npt.NDArray[np.int64]) -> None:
        self._places, self._files, self._lines = places, files, lines

    def __getitem__(self, row: int) -> str:
        return f"{self._places[self._files[row]]}{self._lines[row]}"

    @classmethod
    def open(cls, folder: Path) -> RowLocations | None:
        """Open those in a store's folder, without reading them into memory; None if there are none."""
        places = read_json(folder / _PLACES)
        if places is None:
            return None
        files, lines = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in (_FILES, _LINES))
        return cls(places, files, lines)
