"""Tells whether the labels of a data set are names, numbers or booleans, and refuses a mixture."""

from __future__ import annotations

import math
import re
from enum import StrEnum

from tunesmith_trainer.data.errors import dataset_error, shown
from tunesmith_trainer.tasks.sequence_classification.rows import Label

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)


class Kind(StrEnum):
    """What a label is."""

    NAME = "a name"
    NUMBER = "a number"
    NUMBER_TEXT = "a number as text"  # as all numbers in CSV files
    BOOLEAN = "a boolean"


_CONFLICTS = {
    Kind.NAME: (Kind.NUMBER, Kind.BOOLEAN),
    Kind.NUMBER: (Kind.NAME, Kind.BOOLEAN),
    Kind.NUMBER_TEXT: (Kind.BOOLEAN,),
    Kind.BOOLEAN: (Kind.NAME, Kind.NUMBER, Kind.NUMBER_TEXT),
}


def kind_of(label: Label) -> Kind:
    """Return what a label is."""
    if isinstance(label, bool):
        return Kind.BOOLEAN
    if isinstance(label, int | float):
        return Kind.NUMBER
    is_number = _NUMBER.fullmatch(label.strip()) and math.isfinite(float(label))
    return Kind.NUMBER_TEXT if is_number else Kind.NAME


def number_of(label: Label) -> float:
    """Return the number that a label is, in a file or as text."""
    return float(label)


class LabelKinds:
    """The kinds of the labels so far.

    Attributes:
        first: Location of the first label of each kind.
        fraction: Location of the first number that is not a whole one; empty if there is none.
    """

    def __init__(self) -> None:
        self.first: dict[Kind, str] = {}
        self.fraction = ""
        self._not_finite = ""
        self._has_other_names = False

    def add(self, location: str, field: str, label: Label) -> None:
        """Add a label.

        Raises:
            StageError: INVALID_DATASET: labels before it are of a kind that does not go with it.
        """
        kind = kind_of(label)
        if kind not in self.first:
            for other in _CONFLICTS[kind]:
                if other in self.first:
                    raise dataset_error(
                        location,
                        f"{field} is {shown(label)}, {kind.value}, and in {self.first[other]} it is {other.value}",
                        "Write the labels of all rows as names in quotes, or all as numbers",
                    )
            self.first[kind] = location
        if kind is Kind.NAME and isinstance(label, str):
            if _NOT_FINITE.fullmatch(label.strip()):
                self._not_finite = self._not_finite or location
            else:
                self._has_other_names = True
        elif not self.fraction and _has_fraction(label):
            self.fraction = location

    @property
    def are_numbers(self) -> bool:
        """Whether all labels are numbers, of which some have fractions."""
        return bool(self.fraction) and not self.first.keys() & {Kind.NAME, Kind.BOOLEAN}

    def require_finite(self) -> None:
        """Fail if all labels are numbers but for some that stand for a missing one.

        Raises:
            StageError: INVALID_DATASET.
        """
        if self._not_finite and not self._has_other_names and Kind.NUMBER_TEXT in self.first:
            raise dataset_error(
                self._not_finite,
                "label is not a finite number, and the labels of other rows are numbers",
                "Write a number, or remove the row",
            )


def _has_fraction(label: Label) -> bool:
    if isinstance(label, str):
        return not _WHOLE.fullmatch(label.strip())
    return isinstance(label, float)
