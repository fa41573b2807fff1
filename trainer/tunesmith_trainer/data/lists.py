"""Reads columns that hold lists, numbers and objects."""

from __future__ import annotations

import json
from typing import Any

from tunesmith_trainer.data.errors import dataset_error, shown


def as_list(location: str, field: str, value: Any, shape: str) -> list[Any]:  # noqa: ANN401 - any JSON value
    """Return the value of a column that holds a list, also one that is written as JSON text in a cell of a CSV file.

    Args:
        location: Location of the row.
        field: Name of the column.
        value: Its value.
        shape: What the list looks like, for messages.

    Raises:
        StageError: INVALID_DATASET: it is no list.
    """
    value = from_json_text(location, field, value, shape)
    if not isinstance(value, list):
        problem = f"{field} is null" if value is None else f"{field} is {shown(value)}, not a list"
        raise dataset_error(location, problem, f"Write {shape}")
    return value


def from_json_text(location: str, field: str, value: Any, shape: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return a value; one that is written as JSON text, with a bracket in front, is parsed.

    Raises:
        StageError: INVALID_DATASET: the text is not JSON.
    """
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        python = "'" in value[:4]
        detail = "it is a Python value" if python else str(error)
        remedy = "Write it with json.dumps, not str" if python else f"Write {shape}"
        raise dataset_error(location, f"{field} is not valid JSON: {detail}", remedy) from None


def as_offset(location: str, field: str, value: Any) -> int:  # noqa: ANN401 - any JSON value
    """Return a number of characters.

    Raises:
        StageError: INVALID_DATASET: it is not a whole number from 0.
    """
    if isinstance(value, float) and value.is_integer():  # as pandas writes a column with missing numbers
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise dataset_error(
            location, f"{field} is {shown(value)}, not a whole number", "Write the number of characters before it"
        )
    if value < 0:
        raise dataset_error(
            location, f"{field} is {value}, below 0", "Write the number of characters before it, from 0"
        )
    return value
