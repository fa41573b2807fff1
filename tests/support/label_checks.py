"""Reads rows of texts with labels as `prepare` does before it tokenises them."""

import json
from pathlib import Path
from typing import Any

from tunesmith_api.spec import TrainingJobSpec
from tunesmith_trainer.data.formats import RowParser
from tunesmith_trainer.data.sources import Dataset, SourceFile
from tunesmith_trainer.tasks.sequence_classification.targets import LabelTargets
from tunesmith_trainer.tasks.sequence_classification.task import SequenceClassification


def label_spec(**sections: Any) -> TrainingJobSpec:
    """The spec of a job; `sections` replace whole sections."""
    spec = {
        "model": {"uri": "./model"},
        "task": "sequenceClassification",
        "dataset": {"sources": [{"uri": "./rows.jsonl"}]},
        **sections,
    }
    return TrainingJobSpec.model_validate(spec)


def targets_of(path: Path, validation: Path | None = None, **sections: Any) -> LabelTargets:
    """What looks at the labels, after all rows of the files."""
    spec = label_spec(**sections)
    parser = RowParser(spec.dataset.format, spec.dataset.columns, SequenceClassification().formats(spec))
    targets = LabelTargets(spec)
    for row in Dataset([SourceFile(path.name, path, "")], parser):
        targets.add(row)
    if validation is not None:
        for row in Dataset([SourceFile(validation.name, validation, "")], parser):
            targets.add_validation(row)
    return targets


def labels_file(path: Path, labels: list[Any], column: str = "label") -> Path:
    """Write rows with these labels, each with a text of its own."""
    rows = [{"text": f"text {number}", column: label} for number, label in enumerate(labels)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
