"""The small real task on which techniques are compared: a model that has learned one task is adapted to another.

Both are about Tunesmith's own API. The base model has learned to say what a field is for. Then it learns to answer in
short, beginning with the kind that the field is of; the phrasings that are kept out are those of the base model's task.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "quickstart"))

WORDS = 8  # of a short answer
SHORT = "In short."

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

    def short(row: dict[str, str]) -> dict[str, str]:
        kind = next(name for name in ("FineTuneJob", "InferenceWorkspace") if name in row["prompt"])
        answer = " ".join(row["completion"].rstrip(".").split()[:WORDS])
        return {"prompt": f"{row['prompt']} {SHORT}", "completion": f"{kind}: {answer}"}

    train, held_out = base_rows()
    return [short(row) for row in train], [short(row) for row in held_out]


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
