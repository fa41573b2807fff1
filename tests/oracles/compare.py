"""Compares each task with a plain script of transformers' Trainer: the same model, rows, steps and seed.

python tests/oracles/compare.py               # all of them; 10 minutes on 2 idle cores
python tests/oracles/compare.py classification
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "hack")]

from support.example_rows import rows_of  # noqa: E402
from support.technique_runs import Runs  # noqa: E402
from support.technique_tasks import write_task  # noqa: E402

TOLERANCE = 0.01
SEED = 42


@dataclass(frozen=True)
class Oracle:
    """A task that is compared.

    Attributes:
        script: The script, without its ending; the metrics that it prints are compared.
        example: The example whose rows are learned.
        task: Value of `spec.task`.
        architecture: Of the model, which begins at random weights; `encoder` for one that has filled gaps in texts
            (support/purpose_bases.py), as finding answers takes long without.
        steps: Steps of training.
        rate: Learning rate.
    """

    script: str
    example: str
    task: str
    architecture: str
    steps: int
    rate: float = 1e-3


ORACLES = (
    Oracle("classification", "classification", "sequenceClassification", "bert", 240),
    Oracle("entities", "entities", "tokenClassification", "bert", 150),
    Oracle("translation", "translation", "translation", "t5", 1200, 2e-3),
    Oracle("question_answering", "question-answering", "questionAnswering", "encoder", 600),
)


def compare(oracle: Oracle, folder: Path, runs: Runs) -> tuple[dict[str, float], dict[str, float]]:
    """Return the metrics of the product's model and of the script's, on the validation rows.

    Args:
        oracle: The task.
        folder: Where everything is written.
        runs: Runs the product's stages.
    """
    train, validation = rows_of(oracle.example)
    base = folder / "base"
    if oracle.architecture == "encoder":
        # More rows to validate on than the example has: one of a hundred would be a difference of 1%.
        kept = len(train) * 3 // 4
        train, validation = train[:kept], train[kept:] + validation
        runs.call("support.purpose_bases", "make_base", "encoder", base)
    work = write_task(folder / oracle.script, _job(oracle, base, len(validation)), (train, validation))
    for stage in ("prepare", "train", "publish"):
        runs.stage(work, stage)
    metrics = json.loads((work / "publish" / "stage.json").read_text())["metrics"]["after"]
    model = next(path for name in ("model-with-head", "model") if (path := work / "prepare" / name).exists())
    expected = json.loads(_script(oracle, model, work))
    return {name: metrics[name] for name in expected}, expected


def same(found: dict[str, float], expected: dict[str, float]) -> bool:
    """Return whether all metrics are within 1% of the script's."""
    return all(abs(found[name] - value) <= TOLERANCE * abs(value) for name, value in expected.items())


def _job(oracle: Oracle, base: Path, rows: int) -> dict[str, Any]:
    sizes = {"hiddenSize": 128, "intermediateSize": 256, "numHiddenLayers": 2, "vocabSize": 1024}
    scratch = {"architecture": oracle.architecture, "maxPositionEmbeddings": 128, **sizes}
    return {
        "model": {"uri": str(base)} if oracle.architecture == "encoder" else {"scratch": scratch},
        "task": oracle.task,
        "method": "full",
        "training": {
            "maxSteps": oracle.steps,
            "learningRate": oracle.rate,
            "warmupRatio": 0.1,
            "globalBatchSize": 16,
            "maxLength": 128,
            "precision": "fp32",
            "seed": SEED,
        },
        "distributed": {"numProcPerNode": 1},
        "evaluation": {"maxRows": rows, "maxNewTokens": 48},
        "export": {"precisions": [], "mergeWeights": True},
    }


def _script(oracle: Oracle, model: Path, work: Path) -> str:
    """Return the last line that the script prints."""
    options = {
        "model": model,
        "train": work / "train.jsonl",
        "validation": work / "held-out.jsonl",
        "steps": oracle.steps,
        "rate": oracle.rate,
        "seed": SEED,
        "work": work / "oracle",
    }
    command = [sys.executable, str(HERE / f"{oracle.script}.py")]
    command += [text for name, value in options.items() for text in (f"--{name}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{oracle.script}.py has failed:\n{done.stderr[-3000:]}")
    return done.stdout.strip().splitlines()[-1]


def main() -> None:
    """Compare the tasks that are named, or all."""
    wrong = []
    with tempfile.TemporaryDirectory() as name, Runs(Path(name) / "log") as runs:
        for oracle in ORACLES:
            if sys.argv[1:] and oracle.script not in sys.argv[1:]:
                continue
            found, expected = compare(oracle, Path(name), runs)
            print(f"{oracle.script}: {found}, by transformers alone {expected}", flush=True)
            if not same(found, expected):
                wrong.append(oracle.script)
    if wrong:
        sys.exit(f"more than {TOLERANCE:.0%} apart: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
