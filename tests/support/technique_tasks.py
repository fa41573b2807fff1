"""The small real task on which techniques are compared: a model that has learned one task is adapted to another.

Both are about Tunesmith's own API. The base model has learned to say what a field is for. Then it learns to name the
field that a description belongs to, in phrasings of which one is kept out for each field.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tunesmith_api.objects import FineTuneJob, InferenceWorkspace

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "quickstart"))

PHRASINGS = (
    "Which field is this? {description}",
    "Name the field: {description}",
    "{description} What is this field called?",
    "I want to set this: {description}",
    "Where do I write it? {description}",
    "{description} Which field?",
)
HELD_OUT = 60

BASE: dict[str, Any] = {
    "model": {
        "scratch": {
            "hiddenSize": 256,
            "intermediateSize": 768,
            "numHiddenLayers": 4,
            "numAttentionHeads": 4,
            "numKeyValueHeads": 2,
            "vocabSize": 2048,
            "maxPositionEmbeddings": 512,
        }
    },
    "method": "full",
    "training": {"learningRate": 2e-3, "warmupRatio": 0.1, "globalBatchSize": 16, "maxLength": 256},
    "evaluation": {"maxRows": 40},
    "export": {"precisions": [], "mergeWeights": True},
}


def base_rows() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the rows that the base model learns, and those that it is evaluated on."""
    import make_data

    rows: tuple[list[dict[str, str]], list[dict[str, str]]] = make_data.questions()
    return rows


def task_rows() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the rows that the base model is adapted to, and those that are kept out."""
    import make_data

    names: dict[str, str] = {}
    for kind in (FineTuneJob, InferenceWorkspace):
        spec: Any = kind.model_fields["spec"].annotation
        for path, description in make_data.fields(spec, "spec."):
            if path.split(".")[1] not in make_data.LEFT_OUT and not path.endswith("secretRef"):
                names.setdefault(description, f"{path} of {kind.__name__}")
    train, held_out = [], []
    for number, (description, answer) in enumerate(names.items()):
        short = " ".join(description.split()[:24])
        for index, phrasing in enumerate(PHRASINGS):
            row = {"prompt": phrasing.format(description=short), "completion": answer}
            (held_out if index == number % len(PHRASINGS) else train).append(row)
    return train, held_out[:HELD_OUT]


def write_task(work: Path, spec: dict[str, Any], rows: tuple[list[dict[str, str]], list[dict[str, str]]]) -> Path:
    """Make a work folder whose next stage is `prepare`.

    Args:
        work: The folder; it does not exist yet.
        spec: What to train, without the data.
        rows: The rows to train on and those to evaluate on.
    """
    work.mkdir(parents=True)
    for name, part in zip(("train", "held-out"), rows, strict=True):
        (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    dataset = {
        "sources": [{"uri": str(work / "train.jsonl")}],
        "validation": {"sources": [{"uri": str(work / "held-out.jsonl")}]},
    }
    (work / "config.json").write_text(json.dumps({"name": "technique", "spec": {**spec, "dataset": dataset}}))
    return work
