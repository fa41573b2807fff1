"""Counts the rows of each class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tunesmith_trainer.tasks.sequence_classification.label_kinds import Kind, kind_of

MAX_CLASSES = 10_000
"""Most classes of a data set."""


class ClassCounts:
    """The names of classes with their rows.

    Attributes:
        rows: Number of rows of each class, by name, in the order in which they came.
        first: Location of the first row of each class.
        beyond: Location of the first row of a class beyond `MAX_CLASSES`, from which on none is added; else empty.
    """

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.first: dict[str, str] = {}
        self.beyond = ""
        self._places: dict[str, int] = {}

    def add(self, name: str, location: str) -> int:
        """Count a row of a class, and return the class's place in the order in which they came."""
        if name not in self.rows:
            if len(self.rows) == MAX_CLASSES:
                self.beyond = self.beyond or location
                return 0
            self.rows[name] = 0
            self.first[name] = location
            self._places[name] = len(self._places)
        self.rows[name] += 1
        return self._places[name]

    def similar(self) -> list[tuple[str, str]]:
        """Return pairs of names that differ only in case or white space."""
        return similar_names(self.rows)


def in_order(names: Iterable[str]) -> list[str]:
    """Return names of classes sorted: numbers by their value, if all are numbers, else names by their letters."""
    found = sorted(names)
    return sorted(found, key=float) if all(kind_of(name) is Kind.NUMBER_TEXT for name in found) else found


def similar_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs of names that differ only in case or white space, each with the first of its kind."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups["".join(name.split()).casefold()].append(name)
    return [(group[0], other) for group in groups.values() for other in group[1:]]


def balanced_weights(names: Sequence[str], rows: Mapping[str, int]) -> list[float]:
    """Return the weight of each class as scikit-learn's `class_weight="balanced"` computes it.

    Args:
        names: The classes.
        rows: Number of rows of each.
    """
    total = sum(rows[name] for name in names)
    return [total / (len(names) * rows[name]) for name in names]
