"""Looks at the labels of all rows: what kind they are, which classes there are, and how many rows each has."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import TrainingJobSpec
from tunesmith_trainer.data.errors import dataset_error, shown
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.targets import Facts, Targets
from tunesmith_trainer.storage.number_column import NumberColumn
from tunesmith_trainer.tasks.sequence_classification.class_counts import (
    MAX_CLASSES,
    ClassCounts,
    balanced_weights,
    in_order,
)
from tunesmith_trainer.tasks.sequence_classification.label_kinds import Kind, LabelKinds, kind_of, number_of
from tunesmith_trainer.tasks.sequence_classification.problem import (
    BY_API_NAME,
    MULTI,
    REGRESSION,
    SINGLE,
    settings_of,
)
from tunesmith_trainer.tasks.sequence_classification.rows import Label, LabelledRow, label_name

log = logging.getLogger(__name__)

_SHOWN = 8
_REPORTED = 100  # classes in the report


class LabelTargets(Targets):
    """Collects the labels of rows."""

    def __init__(self, spec: TrainingJobSpec) -> None:
        self._settings = settings_of(spec)
        self._splits = spec.dataset.validation.fraction is not None
        self._kinds = LabelKinds()
        self._counts, self._validation = ClassCounts(), ClassCounts()
        self._of_row = NumberColumn("I")  # the class of each row, by the order in which the classes came
        self._range = [math.inf, -math.inf]
        self._width: int | None = None  # where rows have a 0 or 1 for each class: how many of them
        self._first = ""
        self._problem = ""

    def add(self, row: Row) -> None:
        """Add a row of the training sources.

        Raises:
            StageError: INVALID_DATASET: its labels are of another kind than those before.
        """
        if not isinstance(row, LabelledRow):
            raise TypeError(type(row))
        self._check_form(row)
        for index, label in enumerate(row.labels):
            self._kinds.add(row.location, f"labels[{index}]" if row.is_list else "label", label)
            place = self._counts.add(label_name(label), row.location)
            if not row.is_list:
                self._of_row.append(place)
                self._note_number(label)

    def _check_form(self, row: LabelledRow) -> None:
        """Raise a StageError if some rows have a 0 or 1 for each class and others have not, or as many."""
        if not self._first:
            self._first = row.location
            wanted = BY_API_NAME.get(self._settings.problem_type)
            if wanted and (wanted == MULTI) != row.is_list:
                raise _other_format(row)
            self._problem = MULTI if row.is_list else ""
        if not row.is_list or (not row.labels and not row.width and not self._width):
            return
        if self._width is None:
            self._width = row.width
        if row.width == self._width:
            return
        if row.width and self._width:
            problem = f"labels has {row.width} zeros and ones, and {self._width} in {self._first}"
            raise dataset_error(row.location, problem, "Write one for each class, in all rows")
        raise dataset_error(
            row.location,
            f"labels are {'zeros and ones' if row.width else 'names'}, and not so in {self._first}",
            "Write the names of the labels that apply in all rows, or a 0 or 1 for each class in all rows",
        )

    def _note_number(self, label: Label) -> None:
        if kind_of(label) in (Kind.NUMBER, Kind.NUMBER_TEXT):
            value = number_of(label)
            self._range = [min(self._range[0], value), max(self._range[1], value)]

    def add_validation(self, row: Row) -> None:
        """Add a row of the validation sources.

        Raises:
            StageError: INVALID_DATASET: it has a label that no training row has.
        """
        if not isinstance(row, LabelledRow):
            raise TypeError(type(row))
        problem = self.problem()
        self._check_form(row)
        for label in row.labels:
            name = label_name(label)
            if problem == REGRESSION:
                require_number(row.location, label)
            elif name not in self._counts.rows and not self._width:
                raise _unknown(row.location, name, list(self._counts.rows))
            self._validation.add(name, row.location)

    def problem(self) -> str:
        """Return the kind of the problem, as transformers names it.

        Raises:
            StageError: INVALID_DATASET: the labels are not of the kind that the job names, or no model can learn them.
        """
        if not self._problem:
            self._kinds.require_finite()
            wanted = BY_API_NAME.get(self._settings.problem_type)
            self._problem = wanted or (REGRESSION if self._kinds.are_numbers else SINGLE)
            if self._problem == REGRESSION:
                self._require_numbers()
        return self._problem

    def _require_numbers(self) -> None:
        for kind in (Kind.NAME, Kind.BOOLEAN):
            if kind in self._kinds.first:
                raise _no_number(self._kinds.first[kind], f"label is {kind.value}")
        if self._range[0] == self._range[1]:
            raise dataset_error(
                self._first, f"the labels of all rows are {self._range[0]:g}", "Add rows with other numbers"
            )

    def strata(self) -> npt.NDArray[np.int32] | None:
        """Return the class of each training row, int32 [rows], if each row has one class."""
        if self.problem() != SINGLE:
            return None
        return np.concatenate([numbers.astype(np.int32) for _, numbers in self._of_row.chunks()])

    def facts(self) -> Facts:
        """Return the kind of the problem, and the classes with their rows and weights.

        Returns:
            `{problemType, labels, rows, classWeights?}`; of a regression `{problemType}`.

        Raises:
            StageError: INVALID_DATASET or INVALID_SPEC: no model can learn from the labels.
        """
        problem = self.problem()
        if self._settings.class_weights == "balanced" and problem != SINGLE:
            raise StageError(
                Reason.INVALID_SPEC,
                "spec.classification.classWeights: balanced needs one class a row, and "
                + ("the labels are numbers" if problem == REGRESSION else "rows have several labels"),
                "Remove classWeights",
            )
        if problem == REGRESSION:
            return {"problemType": problem}
        names = self._names()
        self._warn()
        rows = [self._counts.rows.get(name, 0) for name in names]
        balanced = self._settings.class_weights == "balanced"
        weights = {"classWeights": balanced_weights(names, self._counts.rows)} if balanced else {}
        return {"problemType": problem, "labels": names, "rows": rows, **weights}

    def _names(self) -> list[str]:
        """Return the names of the classes in order.

        Raises:
            StageError: INVALID_DATASET: there are too few or too many.
        """
        if self._counts.beyond:
            raise dataset_error(
                self._counts.beyond,
                f"this is the label of class {MAX_CLASSES + 1:,}, and {MAX_CLASSES:,} classes can be learned",
                "Map spec.dataset.columns to the column with the classes; if the labels are numbers to predict, write "
                "spec.classification: {problemType: regression}",
            )
        if self._width:
            return [str(index) for index in range(self._width)]
        names = in_order(self._counts.rows)
        if len(names) >= 2:  # noqa: PLR2004 - fewer cannot be told apart
            return names
        if not names:
            raise dataset_error(self._first, "labels is [], as in all rows", "Write the labels that apply to each row")
        if self._problem == MULTI:
            raise dataset_error(
                self._first,
                f"{shown(names[0])} is the only label of all rows",
                'Write rows as {"text": "...", "label": true} and false, or add rows with other labels',
            )
        raise dataset_error(
            self._first, f"the label of all rows is {shown(names[0])}", "Add rows with at least one other label"
        )

    def _warn(self) -> None:
        for one, other in self._counts.similar():
            first = self._counts.first[other]
            log.warning(
                "the labels %r and %r differ only in case or white space (%s); they are two classes", one, other, first
            )
        single = self._single() if self._problem == SINGLE and self._splits else []
        if single:
            log.warning(
                "%d labels have a single row, which is kept for training, the first is %r (%s)",
                len(single),
                single[0],
                self._counts.first[single[0]],
            )

    def _single(self) -> list[str]:
        return [name for name, rows in self._counts.rows.items() if rows == 1]

    def report(self) -> Mapping[str, Any]:
        """Return how many rows have each label, the most frequent first, and names that are nearly equal."""
        if self.problem() == REGRESSION:
            low, high = self._range
            return {"labels": {"problemType": self._problem, "smallest": low, "largest": high}}
        names = sorted(self._names(), key=lambda name: -self._counts.rows.get(name, 0))
        classes = [
            {
                "label": name,
                "rows": self._counts.rows.get(name, 0),
                **({"validationRows": self._validation.rows.get(name, 0)} if self._validation.rows else {}),
            }
            for name in names[:_REPORTED]
        ]
        similar = [list(pair) for pair in self._counts.similar()[:_REPORTED]]
        counted = {"problemType": self._problem, "count": len(names), "classes": classes}
        return {"labels": {**counted, "similar": similar, "singleRow": self._single()[:_REPORTED]}}


def require_number(location: str, label: Label) -> float:
    """Return the number that a label is.

    Raises:
        StageError: INVALID_DATASET: it is none.
    """
    if kind_of(label) not in (Kind.NUMBER, Kind.NUMBER_TEXT):
        raise _no_number(location, f"label is {shown(label)}")
    return number_of(label)


def _no_number(location: str, problem: str) -> StageError:
    return dataset_error(
        location,
        f"{problem}, and numbers are to be predicted",
        "Write a number, or remove the row; for classes write "
        "spec.classification: {problemType: singleLabelClassification}",
    )


def _other_format(row: LabelledRow) -> StageError:
    """Return the error for rows of the other format than the job's kind of problem needs."""
    form = "lists of labels" if row.is_list else "one label each"
    kind = "multiLabelClassification" if row.is_list else "singleLabelClassification"
    return StageError(
        Reason.INVALID_SPEC,
        f"spec.classification.problemType does not go with these rows, which have {form} ({row.location})",
        f"Write problemType: {kind}, or leave it out",
    )


def _unknown(location: str, name: str, known: Sequence[str]) -> StageError:
    """Return the error for a validation row with a label that no training row has."""
    form = "".join(name.split()).casefold()
    same = [other for other in known if "".join(other.split()).casefold() == form]
    near = same or difflib.get_close_matches(name, known, 1)
    names = ", ".join(map(shown, in_order(known)[:_SHOWN])) + (", ..." if len(known) > _SHOWN else "")
    return dataset_error(
        location,
        f"no training row has the label {shown(name)}; they have {names}",
        (f"Write {shown(near[0])}, " if near else "Write one of these, ")
        + "add rows with this label to spec.dataset.sources, or remove the row",
    )
