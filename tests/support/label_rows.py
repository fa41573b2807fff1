"""Rows of texts with labels that follow a rule which a tiny model learns in seconds."""

import json
import random
from pathlib import Path
from typing import Any

ANIMALS, MACHINES = ("cat", "dog", "horse", "sheep", "goose"), ("lathe", "drill", "crane", "loom", "mill")
WORDS = ("the", "old", "red", "near", "under", "house", "river", "slowly", "again", "today", "very", "small")


def animal_rows(count: int = 200, seed: int = 0) -> list[dict[str, Any]]:
    """Rows whose label says whether the text names animals or machines."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        label = draw.choice(("animal", "machine"))
        words = draw.choices(WORDS, k=draw.randint(1, 4))
        words += draw.choices(ANIMALS if label == "animal" else MACHINES, k=draw.randint(1, 3))
        draw.shuffle(words)
        rows.append({"text": " ".join(words), "label": label})
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def classification_job(
    work: Path, model: Path, rows: list[dict[str, Any]], *, method: str = "full", **sections: Any
) -> Path:
    """Make a work folder whose next stage is `prepare`; `sections` replace whole sections of the spec."""
    work.mkdir(parents=True, exist_ok=True)
    data = write_rows(work / "rows.jsonl", rows)
    spec: dict[str, Any] = {
        "model": {"uri": str(model)},
        "task": "sequenceClassification",
        "method": method,
        "dataset": {"sources": [{"uri": str(data)}], "validation": {"fraction": 0.2}},
        "training": {"maxSteps": 40, "learningRate": 0.003, "globalBatchSize": 16, "maxLength": 32},
        "distributed": {"numProcPerNode": 1},
        "evaluation": {"maxRows": 40},
        **sections,
    }
    (work / "config.json").write_text(json.dumps({"name": "tiny", "spec": spec}))
    return work
