"""Rows of texts with labels, and their formats."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_api.spec import DatasetFormat
from tunesmith_trainer.data.conversation import as_text
from tunesmith_trainer.data.errors import dataset_error, shown
from tunesmith_trainer.data.formats import Fields, Format, Formats
from tunesmith_trainer.data.rows import Row

Label = str | bool | int | float

_LARGEST = 2**63
_SHORTEST_WIDTH = 3  # a list of two zeros and ones may be two classes that are called 0 and 1


@dataclass(frozen=True)
class LabelledRow(Row):
    """A text, or two, with its labels.

    Attributes:
        pair: The second text; empty if there is none.
        labels: The labels as the file has them: a single one of a class or number, else those that apply.
        is_list: Whether there may be several labels.
        width: Number of all classes, if the file has a 0 or 1 for each of them; else 0.
    """

    pair: str = ""
    labels: tuple[Label, ...] = ()
    is_list: bool = False
    width: int = 0

    @property
    def texts(self) -> list[str]:
        """The texts, and the names of the labels."""
        return [*self.question, *map(label_name, self.labels)]

    @property
    def question(self) -> list[str]:
        """The texts without the labels."""
        return [self.text, self.pair] if self.pair else [self.text]

    @property
    def learned(self) -> str:
        """The names of the labels."""
        return ", ".join(map(label_name, self.labels)) or "(none)"

    @property
    def characters(self) -> int:
        """Number of characters that are tokenised."""
        return len(self.text) + len(self.pair)


def label_name(label: Label) -> str:
    """Return the name of a label's class: `true`, `3`, `0.5`; a name is its own."""
    if isinstance(label, bool):
        return "true" if label else "false"
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)


def _text_label(location: str, fields: Fields) -> Row:
    value = fields["label"]
    if isinstance(value, list):
        raise dataset_error(
            location,
            "label is a list",
            "Write a single label; for several a row write spec.dataset: "
            "{format: textLabels, columns: {labels: label}}, with the columns that are mapped already",
        )
    return LabelledRow(location, text=_text(location, fields), pair=_pair(location, fields), labels=(
        _label(location, "label", value),
    ))  # fmt: skip


def _text_labels(location: str, fields: Fields) -> Row:
    values = _list(location, fields["labels"])
    text, pair = _text(location, fields), _pair(location, fields)
    if len(values) >= _SHORTEST_WIDTH and all(_is_bit(value) for value in values):
        # So long a list of zeros and ones names one of them twice, which no list of names does.
        found = tuple(index for index, value in enumerate(values) if value)
        return LabelledRow(location, text=text, pair=pair, labels=found, is_list=True, width=len(values))
    labels = tuple(_label(location, f"labels[{index}]", value) for index, value in enumerate(values))
    names = [label_name(label) for label in labels]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise dataset_error(location, f"labels has {shown(name)} twice", "Remove the second")
    return LabelledRow(location, text=text, pair=pair, labels=labels, is_list=True)


def _list(location: str, value: Any) -> list[Any]:  # noqa: ANN401 - any JSON value
    """Return the list of labels, also of one that is JSON in a cell of a CSV file.

    Raises:
        StageError: It is not a list.
    """
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise dataset_error(
                location, f"labels is not valid JSON: {error}", 'Write names in double quotes: ["a", "b"]'
            ) from None
    if isinstance(value, list):
        return value
    if value is None:
        raise dataset_error(location, "labels is null", "Write [] for a row that has none of the labels")
    raise dataset_error(
        location,
        f"labels is {shown(value)}, not a list",
        'Write a list: ["a", "b"]; if each row has one label, write spec.dataset: '
        "{format: textLabel, columns: {label: labels}}, with the columns that are mapped already",
    )


def _is_bit(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return isinstance(value, bool | int | float) and value in (0, 1)


def _text(location: str, fields: Fields) -> str:
    return as_text(location, "text", fields["text"])


def _pair(location: str, fields: Fields) -> str:
    value = fields.get("textPair")
    return "" if value in (None, "") else as_text(location, "textPair", value)


def _label(location: str, field: str, value: Any) -> Label:  # noqa: ANN401 - any value of a row
    """Return a label.

    Raises:
        StageError: It is neither a name nor a finite number nor a boolean.
    """
    remedy = "Write the row's label, or remove the row"
    if value is None:
        raise dataset_error(location, f"{field} is null", remedy)
    if isinstance(value, str):
        if not value.strip():
            raise dataset_error(location, f"{field} is empty", remedy)
        return as_text(location, field, value)
    if isinstance(value, float) and not math.isfinite(value):
        raise dataset_error(location, f"{field} is {value}, not a finite number", "Write a number, or remove the row")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise dataset_error(location, f"{field} is {shown(value)}, too large a number", "Write it as a name in quotes")
    if isinstance(value, bool | int | float):
        return value
    raise dataset_error(
        location,
        f"{field} is {shown(value)}, neither a name nor a number",
        "Write a name in quotes, a number, true or false",
    )


_FIRST_TEXTS = (
    *("text", "sentence", "sentence1", "premise", "text1", "text_a", "question1", "review", "comment", "tweet"),
    *("utterance", "message", "content", "body", "document", "description", "headline", "title", "question", "query"),
    "input",
)
_SECOND_TEXTS = (
    *("textpair", "text_pair", "sentence2", "hypothesis", "text2", "text_b", "question2", "passage", "answer"),
    *("sentence", "response", "context"),
)
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "text": _FIRST_TEXTS,
    "textPair": _SECOND_TEXTS,
    "label": (
        *("label", "class", "category", "target", "sentiment", "intent", "score", "rating", "stars", "similarity"),
        *("topic", "emotion", "label_name", "label_text", "coarse_label", "gold_label", "output", "y"),
    ),
    "labels": ("labels", "label", "classes", "categories", "tags", "topics", "emotions", "genres", "targets"),
}

FORMATS: Formats = {
    DatasetFormat.TEXT_LABELS: Format(
        ("text", "labels"), ("textPair",), '{"text": "...", "labels": ["...", "..."]}', _text_labels, _ALIASES
    ),
    DatasetFormat.TEXT_LABEL: Format(
        ("text", "label"), ("textPair",), '{"text": "...", "label": "..."}', _text_label, _ALIASES
    ),
}
"""The formats, in the order in which they are tried."""
