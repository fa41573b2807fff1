"""The results file of a job: what training has logged of each step, as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith_hosted.files.filesystems import open_filesystem, open_to_read

COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")
_LOG = "training_log.jsonl"
_VOLUME = "pvc://"


@dataclass(frozen=True)
class Step:
    """What is known of a step.

    Attributes:
        step: Its number, from 1.
        train_loss: Loss of its rows.
        train_accuracy: Share of its learned tokens (or pairs) that are right; None if it was not measured.
        valid_loss: Loss on the validation rows, if they were evaluated after it.
        valid_accuracy: As `train_accuracy`, of the validation rows.
        tokens: Tokens trained on up to it.
    """

    step: int
    train_loss: float | None = None
    train_accuracy: float | None = None
    valid_loss: float | None = None
    valid_accuracy: float | None = None
    tokens: int | None = None


def read_steps(artifact: str) -> list[Step]:
    """Return the steps that an artifact's training log has; none if it is on a volume, which only pods can read.

    Raises:
        OSError: The store does not answer.
    """
    if artifact.startswith(_VOLUME):
        return []
    files, root = open_filesystem(artifact)
    try:
        with open_to_read(files, f"{root}/{_LOG}") as file:
            return [step_of(json.loads(line)) for line in file if line.strip()]
    except FileNotFoundError:
        return []


def step_of(entry: dict[str, Any]) -> Step:
    """Return the step of a line of the log."""
    return Step(
        step=int(entry["step"]),
        train_loss=entry.get("loss"),
        train_accuracy=entry.get("tokenAccuracy", entry.get("rewardAccuracy")),
        valid_loss=entry.get("evalLoss"),
        valid_accuracy=entry.get("evalTokenAccuracy", entry.get("evalRewardAccuracy")),
        tokens=entry.get("tokens"),
    )


def steps_of_events(data: Iterable[dict[str, Any]]) -> list[Step]:
    """Return the steps that events of metrics tell of, which are those that were seen while they ran."""
    return [Step(item["step"], item.get("train_loss"), valid_loss=item.get("valid_loss")) for item in data]


def as_csv(steps: Sequence[Step]) -> bytes:
    """Return the results file."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for step in steps:
        row = (step.step, step.train_loss, step.train_accuracy, step.valid_loss, step.valid_accuracy)
        table.writerow("" if value is None else value for value in row)
    return text.getvalue().encode()
