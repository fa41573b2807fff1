"""Finds equal and contradicting rows, by hashes, in a few bytes per row."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_trainer.data.rows import Row

_SHOWN = 10
_SEPARATOR = "\x1f"


class RowIndex:
    """Hashes, locations and lengths of the rows of a data set, in order: 30 bytes per row."""

    def __init__(self) -> None:
        self._rows, self._prompts = array("Q"), array("Q")
        self._prefixes: dict[str, int] = {}
        self._prefix, self._number = array("H"), array("Q")
        self.characters = array("L")

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Row) -> None:
        """Add a row."""
        texts = row.texts
        self._rows.append(_hash(texts))
        last = max((index for index, turn in enumerate(row.turns) if turn.target), default=0)
        self._prompts.append(_hash(texts[: 2 * last]) if row.turns else 0)
        prefix = row.location.rstrip("0123456789")
        self._prefix.append(self._prefixes.setdefault(prefix, len(self._prefixes)))
        self._number.append(int(row.location[len(prefix) :] or 0))
        self.characters.append(sum(map(len, [turn.content for turn in row.turns] or texts)))

    def location(self, index: int) -> str:
        """Return the location of a row."""
        return f"{list(self._prefixes)[self._prefix[index]]}{self._number[index]}"

    def duplicates(self) -> dict[str, Any]:
        """Return the number of rows that repeat an earlier one, and the first of them."""
        rows = np.asarray(self._rows)
        _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
        earlier = first[inverse]
        repeated = np.flatnonzero(earlier != np.arange(len(rows)))
        return _found(len(repeated), [[self.location(i), self.location(earlier[i])] for i in repeated[:_SHOWN]])

    def contradictions(self) -> dict[str, Any]:
        """Return the number of rows with the prompt of an earlier row and another answer, and the first of them."""
        prompts, rows = np.asarray(self._prompts), np.asarray(self._rows)
        _, first, inverse = np.unique(prompts, return_index=True, return_inverse=True)
        earlier = first[inverse]
        other = np.flatnonzero((rows != rows[earlier]) & (prompts != 0))
        return _found(len(other), [[self.location(i), self.location(earlier[i])] for i in other[:_SHOWN]])

    def overlap(self, held_out: Collection[int], validation: RowIndex | None) -> dict[str, Any]:
        """Return the number of validation rows that are training rows too, and the first of them.

        Args:
            held_out: The rows of this index that are kept for validation.
            validation: The validation rows, if they are a data set of their own.
        """
        rows = np.asarray(self._rows)
        is_training = np.ones(len(rows), bool)
        is_training[list(held_out)] = False
        if validation is not None:
            source, candidates = validation, np.arange(len(validation))
        else:
            source, candidates = self, np.flatnonzero(~is_training)
        training = np.flatnonzero(is_training)
        order = training[np.argsort(rows[training], kind="stable")]
        wanted = np.asarray(source._rows)[candidates]
        position = np.searchsorted(rows[order], wanted)
        position[position == len(order)] = 0
        equal = np.flatnonzero(rows[order][position] == wanted) if len(order) else np.zeros(0, np.int64)
        examples = [[source.location(candidates[i]), self.location(order[position[i]])] for i in equal[:_SHOWN]]
        return _found(len(equal), examples)


def _hash(texts: list[str]) -> int:
    """Return a hash of some texts, which is never 0."""
    digest = blake2b(_SEPARATOR.join(texts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def _found(rows: int, examples: list[list[str]]) -> dict[str, Any]:
    return {"rows": rows, "examples": examples}


def as_lengths(values: array[int]) -> npt.NDArray[np.int64]:
    """Return lengths as an int64 array [rows]."""
    return np.asarray(values, np.int64)
