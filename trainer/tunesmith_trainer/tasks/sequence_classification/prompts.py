"""What is kept of validation rows besides their tokens: what a server is asked about them, and what is right."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tunesmith_trainer.data.encode import Encoded
from tunesmith_trainer.tasks.sequence_classification.problem import REGRESSION
from tunesmith_trainer.tasks.sequence_classification.rows import LabelledRow, label_name


@dataclass(frozen=True)
class LabelPrompt:
    """A validation row.

    Attributes:
        row: Its index in the store.
        location: File and line.
        inputs: What a server is asked: a text, or `{text, text_pair}`.
        reference: The name of the class, the names of those that apply, or the number.
    """

    row: int
    location: str
    inputs: Any
    reference: Any


def evaluation_line(piece: Encoded, index: int, problem: str) -> dict[str, Any] | None:
    """Return the line of evaluation.jsonl of a row.

    Args:
        piece: The encoded row.
        index: Its index in the store.
        problem: The kind of the problem, as transformers names it.
    """
    row = piece.row
    if not isinstance(row, LabelledRow):
        return None
    inputs = {"text": row.text, "text_pair": row.pair} if row.pair else row.text
    names = [label_name(label) for label in row.labels]
    reference = names if row.is_list else piece.targets[1] if problem == REGRESSION else names[0]
    return {"row": index, "location": row.location, "inputs": inputs, "reference": reference}


def read_label_prompts(path: Path, limit: int) -> list[LabelPrompt]:
    """Return the first validation rows; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        return [LabelPrompt(**json.loads(line)) for line in islice(file, limit)]
