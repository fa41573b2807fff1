"""Micro-batches with unequal numbers of targets, on several processes, have the gradients of one large batch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from support.many_fits import fit_all
from support.technique_runs import Runs
from support.training import log_of

Job = Callable[..., Path]
Tensors = dict[str, torch.Tensor]

BATCH = 8


def make(job: Job, name: str, strategy: str, micro_batch_size: int) -> Path:
    training = {
        "globalBatchSize": BATCH,
        "microBatchSize": micro_batch_size,
        "maxSteps": 2,
        "maxGradNorm": 1000,
        "warmupRatio": 0,
        "checkpoint": {"everySteps": 1},
    }
    return job(name, training=training, distributed={"strategy": strategy, "numProcPerNode": 2})


def gradients(work: Path) -> Tensors:
    """The gradients of the first step: AdamW's first moment is a tenth of them after it. By name with ZeRO."""
    from safetensors import safe_open

    checkpoint = work / "train" / "checkpoints" / "checkpoint-1"
    if (checkpoint / "optimizer.pt").exists():
        state = torch.load(checkpoint / "optimizer.pt", weights_only=True)["state"]
        return {str(number): values["exp_avg"] * 10 for number, values in state.items()}
    found: dict[str, list[tuple[int, torch.Tensor]]] = {}
    for path in (checkpoint / "zero").iterdir():
        with safe_open(path, framework="pt") as file:
            for name, (start, count, _) in json.loads(file.metadata()["fragments"]).items():
                part = file.get_tensor(f"exp_avg/{name}")
                assert len(part) == count
                found.setdefault(name, []).append((start, part))
    ordered = {name: sorted(parts, key=lambda part: part[0]) for name, parts in found.items()}
    return {name: torch.cat([values for _, values in parts]) * 10 for name, parts in ordered.items()}


def difference(work: Path, expected: Path) -> float:
    """The largest difference of a tensor's gradient, relative to the gradient."""
    one, other = gradients(work), gradients(expected)
    assert one.keys() == other.keys()
    assert all(float(value.norm()) > 0 for value in other.values())
    return max(float((one[name].flatten() - value.flatten()).norm() / value.norm()) for name, value in other.items())


def loss_of(work: Path) -> float:
    return float(log_of(work)[0]["loss"])


def test_accumulation_is_exact(job: Job, runs: Runs) -> None:
    large: dict[str, Path] = {name: make(job, f"large-{name}", name, BATCH) for name in ("ddp", "zero1")}
    small = {name: make(job, name, name, 1) for name in ("ddp", "zero1", "zero2", "zero3")}
    fit_all(runs, list(large.values()), processes=1)
    fit_all(runs, list(small.values()))
    sizes: list[list[Any]] = [
        sorted(float(value.norm()) for value in gradients(large[name]).values()) for name in large
    ]
    assert max(abs(one / other - 1) for one, other in zip(*sizes, strict=True)) < 1e-6  # the names alone differ
    for name, work in small.items():
        assert json.loads((work / "fit.json").read_text())["resolved"]["gradientAccumulationSteps"]["value"] == 4
        expected = large["ddp" if name == "ddp" else "zero1"]
        assert difference(work, expected) < 1e-6, name
        assert abs(loss_of(work) / loss_of(expected) - 1) < 1e-6, name
