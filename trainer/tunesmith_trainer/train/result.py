"""The results of a training run: the fields of the stage's marker, and what differs from run to run."""

from __future__ import annotations

import importlib.metadata
import resource
from pathlib import Path
from typing import Any

import torch

from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.storage.files import write_json
from tunesmith_trainer.train.trainer import FineTuner
from tunesmith_trainer.train.training_log import read_log


def result_of(work: WorkFolder, trainer: FineTuner, tokens: int) -> dict[str, Any]:
    """Return the fields of the marker that describe the run."""
    resolved, step = trainer.resolved, int(trainer.state.global_step)
    entries = read_log(work.training_log)
    evaluations = [entry["evalLoss"] for entry in entries if "evalLoss" in entry]
    libraries = ["torch", "transformers", "peft", "accelerate", *(["deepspeed"] if resolved.zero_stage else [])]
    return {
        "steps": step,
        "epochs": round(step * resolved.global_batch_size / resolved.train_rows, 4),
        "stoppedEarly": trainer.stopped_early,
        "tokens": tokens,
        "trainLoss": sum(entry["loss"] for entry in entries) / len(entries),
        "evalLoss": evaluations[-1] if evaluations else None,
        "bestStep": trainer.validation.best_step,
        "bestEvalLoss": trainer.validation.best,
        "publishedStep": trainer.published_step,
        "worldSize": resolved.world_size,
        "strategy": resolved.strategy,
        "precision": resolved.precision,
        "resolved": resolved.to_status(),
        "versions": {name: importlib.metadata.version(name) for name in libraries},
    }


def write_metrics(
    work: WorkFolder,
    trainer: FineTuner,
    tokens: Any,  # noqa: ANN401 - int64 [total_steps]
    start: Path | None,
    seconds: float,
    peaks: dict[str, Any],
) -> None:
    """Write `metrics.json`: the values that differ between two runs of the same job."""
    first = int(start.name.rsplit("-", 1)[1]) if start else 0
    done = int(tokens[trainer.state.global_step - 1]) - (int(tokens[first - 1]) if first else 0)
    gpu = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    metrics = {
        "resumedFromStep": first,
        "seconds": round(seconds, 3),
        "tokensPerSecond": round(done / trainer.seconds, 1) if trainer.seconds else None,
        "secondsPerStep": trainer.seconds_per_step(),
        "peakMemoryBytes": peak,
        **peaks,
    }
    write_json(work.stage(Stage.TRAIN) / "metrics.json", metrics)
