"""Measures what a technique costs and how well it learns: memory on one model, speed and quality on another."""

import dataclasses
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.bench_jobs import steady_speed
from support.plan_points import MODELS
from support.technique_cells import PROCESSES, STRATEGIES, Cell, offloads, variants, write_job
from support.technique_runs import Runs
from support.technique_tasks import BASE, base_rows, task_rows, write_task
from tunesmith_api.methods import METHODS, whole_methods
from tunesmith_api.planner import ModelShape, Setup, rank_memory
from tunesmith_api.resolve import resolve
from tunesmith_api.spec import TrainingJobSpec

MEMORY_MODEL, MEMORY_LENGTH, MEMORY_STEPS = "llama-66m", 64, 4
SPEED_STEPS = 14

# Defaults are for models of billions of parameters; one this small learns faster. All adapters by the same factor.
RATE_OF_ADAPTERS = 20.0
RATE_OF_WEIGHTS = 1e-3


def techniques() -> Iterator[Cell]:
    """Yield what is measured: all methods and variants under plain torch, and the strategies with all weights."""
    for method in METHODS:
        yield Cell(method, STRATEGIES[0])
    for variant in variants():
        yield Cell(variant, STRATEGIES[0])
    whole = whole_methods()[0]
    for strategy in STRATEGIES[1:]:
        yield Cell(whole, strategy)
    for strategy in STRATEGIES[1:]:
        for offload in offloads()[1:]:
            cell = Cell(whole, strategy, offload)
            if cell.refusal() is None and strategy in (STRATEGIES[2], STRATEGIES[-1]):
                yield cell


def rate(cell: Cell) -> float:
    """Return the learning rate that a technique learns the task with."""
    info, variant = METHODS[cell.method], variants().get(cell.technique)
    own = RATE_OF_ADAPTERS * info.default_learning_rate if info.trains_adapter else RATE_OF_WEIGHTS
    return float(f"{own * (variant.rate if variant else 1):.4g}")


class Measurer:
    """Measures techniques, one after the other."""

    def __init__(self, folder: Path, runs: Runs, *, steps: int, base_epochs: float) -> None:
        """Make no model yet.

        Args:
            folder: Where everything is written.
            runs: Runs the jobs.
            steps: Steps in which a technique learns the task.
            base_epochs: Epochs in which the base model learns its own.
        """
        self._folder = folder
        self._runs = runs
        self._steps = steps
        self._base_epochs = base_epochs
        self._number = 0

    def base(self) -> dict[str, Any]:
        """Make the base model of the task and return `{parameters, bytes, seconds, metrics}`."""
        work = self._folder / "base"
        spec = {**BASE, "training": {**BASE["training"], "epochs": self._base_epochs}}
        write_task(work, {**spec, "distributed": {"numProcPerNode": PROCESSES, "strategy": "ddp"}}, base_rows())
        for stage in ("prepare", "train", "publish"):
            self._runs.stage(work, stage)
        marker, published = (json.loads((work / stage / "stage.json").read_text()) for stage in ("train", "publish"))
        train, held_out = task_rows()
        return {
            "parameters": marker["totalParameters"],
            "bytes": _bytes(self._base),
            "steps": marker["steps"],
            "metrics": published["metrics"]["after"],
            "rows": len(train),
            "heldOut": len(held_out),
        }

    @property
    def _base(self) -> Path:
        return self._folder / "base" / "artifact" / "model"

    def learn(self, cell: Cell) -> dict[str, Any]:
        """Let a technique learn the task, and return what it trained, keeps, and answers."""
        work = write_task(self._new(), self._task(cell, self._steps), task_rows())
        for stage in ("prepare", "train", "publish"):
            self._runs.stage(work, stage)
        marker, published = (json.loads((work / stage / "stage.json").read_text()) for stage in ("train", "publish"))
        before, after = (published["metrics"][when] for when in ("before", "after"))
        found = {
            "trained": marker["trainedParameters"],
            "total": marker["totalParameters"],
            "learningRate": rate(cell),
            "kept": _bytes(work / "train" / "final"),
            "before": before,
            "after": after,
        }
        shutil.rmtree(work)
        return found

    def speed(self, cell: Cell) -> float:
        """Return useful tokens a second of a few steps of the task, in all processes together."""
        work = write_task(self._new(), self._task(cell, SPEED_STEPS), task_rows())
        self._runs.stage(work, "prepare")
        self._runs.train(work)
        found = steady_speed(work)
        shutil.rmtree(work)
        return found

    def memory(self, cell: Cell) -> dict[str, int]:
        """Return bytes of a process: `allocated`, `atRest` and `resident` as measured, `planned` for the first."""
        base = self._folder / MEMORY_MODEL
        if not base.exists():
            code = f"from support.plan_child import save_model; save_model({str(base)!r}, {_MEMORY_CONFIG!r}, False)"
            subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[1])
        training = {
            "globalBatchSize": PROCESSES,
            "microBatchSize": 1,
            "maxLength": MEMORY_LENGTH,
            "maxSteps": MEMORY_STEPS,
            "warmupRatio": 0,
            "learningRate": rate(cell),
            "checkpoint": {"everySteps": 100},
        }
        spec = cell.job("./model", {"gradientCheckpointing": False, **training})
        work = self._new()
        ids = [(7 * index) % 1000 + 3 for index in range(MEMORY_LENGTH)]
        write_job(work, base, spec, [(ids, [1] * MEMORY_LENGTH)] * (PROCESSES * MEMORY_STEPS))
        self._runs.start(work)
        taken = self._runs.train(work, measure=True)
        shutil.rmtree(work)
        found = {name: max(rank[name] for rank in taken) for name in ("allocated", "atRest", "resident")}
        return {**found, "planned": planned(spec).allocated}

    def _task(self, cell: Cell, steps: int) -> dict[str, Any]:
        training = {
            "maxSteps": steps,
            "learningRate": rate(cell),
            "warmupRatio": 0.1,
            "globalBatchSize": 16,
            "maxLength": 128,
        }
        whole = not METHODS[cell.method].trains_adapter
        return {
            **cell.job(str(self._base), training, processes=PROCESSES),
            "evaluation": {"maxRows": 60, "maxNewTokens": 24},
            "export": {"precisions": [], "mergeWeights": whole},
        }

    def _new(self) -> Path:
        self._number += 1
        return self._folder / f"job-{self._number}"


_MEMORY_CONFIG = MODELS[MEMORY_MODEL]


def planned(spec: dict[str, Any]) -> Any:
    """Return what the planner says of a process of the memory's job."""
    job = TrainingJobSpec.model_validate(spec)
    resolved = resolve(job, PROCESSES, PROCESSES * MEMORY_STEPS, False)
    values = {
        "method": job.method,
        "precision": resolved.precision,
        "strategy": resolved.strategy,
        "processes": PROCESSES,
        "micro_batch_size": resolved.micro_batch_size,
        "gradient_accumulation_steps": resolved.gradient_accumulation_steps,
        "length": MEMORY_LENGTH,
        "gradient_checkpointing": resolved.gradient_checkpointing,
        "adapter": resolved.adapter,
        "gpu": False,
        "offload": spec["distributed"].get("offload", "none"),
        "packing": bool(spec["training"].get("packing")),
    }
    names = {field.name for field in dataclasses.fields(Setup)}
    return rank_memory(ModelShape.from_config(_MEMORY_CONFIG), Setup(**{k: v for k, v in values.items() if k in names}))


def middle(values: list[float]) -> float:
    """Return the median of speeds."""
    return statistics.median(values)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
