"""Finds equal and contradicting rows, by hashes, in memory that does not grow with the rows."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith_trainer.data.held_out import HeldOutRows
from tunesmith_trainer.data.length_counts import LengthCounts
from tunesmith_trainer.data.report.first_rows import Findings, FirstRows, count_parts, in_part
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.storage.number_column import NumberColumn

_SHOWN = 10
_SEPARATOR = "\x1f"


class RowIndex:
    """Hashes, locations and lengths of the rows of a data set, in order: 28 bytes a row, in temporary files.

    Attributes:
        characters: Number of rows by their characters.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Create an empty index.

        Args:
            folder: Where temporary files are made; the folder for temporary files by default.
        """
        self._rows, self._prompts, self._numbers = (NumberColumn("Q", folder) for _ in range(3))
        self._prefix = NumberColumn("I", folder)
        self._prefixes: dict[str, int] = {}
        self.characters = LengthCounts()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Row) -> None:
        """Add a row."""
        self._rows.append(_hash(row.texts))
        self._prompts.append(_hash(question) if (question := row.question) else 0)
        prefix = row.location.rstrip("0123456789")
        self._prefix.append(self._prefixes.setdefault(prefix, len(self._prefixes)))
        self._numbers.append(int(row.location[len(prefix) :] or 0))
        self.characters.add(row.characters)

    def location(self, index: int) -> str:
        """Return the location of a row."""
        return f"{list(self._prefixes)[self._prefix[index]]}{self._numbers[index]}"

    def duplicates(self) -> dict[str, Any]:
        """Return the number of rows that repeat an earlier one, and the first of them."""
        found = Findings(_SHOWN)
        parts = count_parts(len(self))
        for part in range(parts):
            first = FirstRows()
            for start, keys in self._rows.chunks():
                places = in_part(keys, part, parts)
                rows = places + start
                earlier = first.add(keys[places], rows)
                repeated = earlier != rows
                found.add(rows[repeated], earlier[repeated])
        return self._described(found, self)

    def contradictions(self) -> dict[str, Any]:
        """Return the number of rows with the prompt of an earlier row and another answer, and the first of them."""
        found = Findings(_SHOWN)
        parts = count_parts(len(self))
        for part in range(parts):
            first = FirstRows()
            answers = FirstRows()  # of the first row of each prompt, by its key: what it says
            for (start, prompts), (_, texts) in zip(self._prompts.chunks(), self._rows.chunks(), strict=True):
                places = in_part(prompts, part, parts)
                places = places[prompts[places] != 0]
                rows, keys = places + start, prompts[places]
                earlier = first.add(keys, rows)
                # A row's own hash beside its prompt's: the first pair of a prompt is that of its first row.
                is_first = earlier == rows
                answers.add(keys[is_first], texts[places][is_first].view(np.int64))
                other = answers.find(keys) != texts[places].view(np.int64)
                found.add(rows[other], earlier[other])
        return self._described(found, self)

    def overlap(self, held_out: HeldOutRows, validation: RowIndex | None) -> dict[str, Any]:
        """Return the number of validation rows that are training rows too, and the first of them.

        Args:
            held_out: The rows of this index that are kept for validation.
            validation: The validation rows, if they are a data set of their own.
        """
        found = Findings(_SHOWN)
        parts = count_parts(len(self))
        for part in range(parts):
            training = FirstRows()
            for start, keys in self._rows.chunks():
                places = in_part(keys, part, parts)
                places = places[~held_out.mask(start, start + len(keys))[places]]
                training.add(keys[places], places + start)
            for start, keys in (validation or self)._rows.chunks():
                places = in_part(keys, part, parts)
                if validation is None:
                    places = places[held_out.mask(start, start + len(keys))[places]]
                equal = training.find(keys[places])
                found.add((places + start)[equal >= 0], equal[equal >= 0])
        return self._described(found, validation or self)

    def _described(self, found: Findings, source: RowIndex) -> dict[str, Any]:
        examples = [[source.location(row), self.location(earlier)] for row, earlier in found.first]
        return {"rows": found.count, "examples": examples}


def _hash(texts: list[str]) -> int:
    """Return a hash of some texts, which is never 0."""
    digest = blake2b(_SEPARATOR.join(texts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
