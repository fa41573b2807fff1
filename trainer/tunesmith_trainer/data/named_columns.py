"""Columns that the spec names and that no row has."""

from __future__ import annotations

from tunesmith_trainer.data.errors import dataset_error, listed, shown
from tunesmith_trainer.data.formats import RowParser


def require_columns(parser: RowParser) -> None:
    """Fail if no row has had a column that `spec.dataset.columns` names, once all are read.

    Raises:
        StageError: INVALID_DATASET. Of columns that every row must have, the parser has said so before.
    """
    for name, theirs in parser.columns.items():
        if parser.first_location and name not in parser.columns_found:
            raise dataset_error(
                parser.first_location,
                f"no row has a column {shown(theirs)} (this one has {listed(parser.first_row)})",
                f"Correct spec.dataset.columns.{name}, or remove it",
            )
