"""Puts the data report together."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith_api.spec import DatasetFormat
from tunesmith_trainer.data.encoding_log import EncodingLog, Outcome
from tunesmith_trainer.data.formats import RowParser
from tunesmith_trainer.data.held_out import HeldOutRows
from tunesmith_trainer.data.report.lengths import describe_lengths
from tunesmith_trainer.data.report.row_index import RowIndex
from tunesmith_trainer.data.report.samples import Sample
from tunesmith_trainer.data.report.unused import unused_columns

log = logging.getLogger(__name__)

REPORT = "data_report.json"
"""The report's name in the prepare stage's folder and in the artifact."""


def build_report(
    parser: RowParser,
    wanted: DatasetFormat,
    train: RowIndex,
    validation: RowIndex | None,
    held_out: HeldOutRows,
    samples: Sequence[Sample],
    encoding: EncodingLog | None = None,
    max_length: int | None = None,
    found: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the report on a data set.

    Args:
        parser: The parser that has read all rows.
        wanted: The format in the spec.
        train: The rows of the training sources.
        validation: The rows of the validation sources, if there are any.
        held_out: The rows of the training sources that are kept for validation.
        samples: A few rows as the model will see them.
        encoding: What happened to rows while they were tokenised; None if there is no tokenizer.
        max_length: The largest number of tokens in a row.
        found: What the task says of the rows' targets.
    """
    rows = len(train) + (len(validation) if validation is not None else 0)
    if encoding is not None:
        lengths = describe_lengths(encoding.lengths, "tokens", max_length)
    else:
        lengths = describe_lengths(train.characters, "characters", None)
    return {
        "version": 1,
        "format": parser.format.value,
        "formatReason": _reason(parser, wanted),
        "columns": {name: parser.columns.get(name, name) for name in _used(parser)},
        "unusedColumns": unused_columns(parser),
        "rows": rows,
        "trainRows": len(train) - len(held_out),
        "validationRows": len(held_out) if validation is None else len(validation),
        "duplicates": train.duplicates(),
        "contradictions": train.contradictions(),
        "validationInTraining": train.overlap(held_out, validation),
        **(found or {}),
        "lengths": lengths,
        **({outcome.value: _outcome(encoding, outcome) for outcome in Outcome} if encoding is not None else {}),
        "samples": list(samples),
    }


def log_findings(report: Mapping[str, Any]) -> None:
    """Log what a user should know before training, with the first location of each finding."""
    for key, problem in (
        ("duplicates", "rows that repeat an earlier one"),
        ("contradictions", "rows with the prompt of an earlier one and another answer"),
        ("validationInTraining", "validation rows that are training rows too"),
        ("specialTokens", "rows with special tokens in their text, which the tokenizer takes as such"),
    ):
        found = report.get(key) or {"rows": 0}
        if found["rows"]:
            first = found["examples"][0]
            log.warning(
                "%s: %d, the first is %s; see %s",
                problem,
                found["rows"],
                first if isinstance(first, str) else f"{first[0]} (compare {first[1]})",
                REPORT,
            )


def _used(parser: RowParser) -> list[str]:
    form = parser.formats[parser.format]
    present = [name for name in form.optional if parser.columns.get(name, name) in parser.columns_seen]
    return [*form.required, *present]


def _reason(parser: RowParser, wanted: DatasetFormat) -> str:
    if wanted is not DatasetFormat.AUTO:
        return "spec.dataset.format says so"
    required = parser.formats[parser.format].required
    names = " and ".join(parser.columns.get(name, name) for name in required)
    return f"the first row has the column{'s' if len(required) > 1 else ''} {names}"


def _outcome(encoding: EncodingLog, outcome: Outcome) -> dict[str, Any]:
    return {"rows": encoding.counts[outcome], "examples": encoding.locations[outcome]}
