"""A job that is killed at random moments ends in the very weights of one that is not.

KILLS sets how often a job is killed at least; `make kills` kills each 20 times.
"""

import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.kill import StageCommand, run_undisturbed, run_with_kills
from support.training import child_environment, log_of, training_job

KILLS = int(os.environ.get("KILLS", "4"))
SEED = 20_260_731

TRAINING = {"maxSteps": 30, "globalBatchSize": 16, "learningRate": 0.005, "checkpoint": {"everySteps": 3}}


def whole_job(work: Path) -> Path:
    """A job from a data file to an artifact: a small model from scratch."""
    words = ["tune", "smith", "rank", "alpha", "epoch", "batch", "loss", "gate", "slot", "token", "shard", "merge"]
    rows = [
        {"prompt": f"What is {one} to {other}?", "completion": " ".join([f"{one} is {len(one)}, {other}."] * repeated)}
        for repeated in (2, 6, 12)
        for one in words
        for other in words
    ]
    work.mkdir()
    data = work / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sizes = {"hiddenSize": 64, "intermediateSize": 128, "numHiddenLayers": 2, "vocabSize": 384}
    parity = {"rows": 4, "minNextTokenAgreement": 0.2, "maxPerplexityIncrease": 5}
    spec = {
        "model": {"scratch": {**sizes, "maxPositionEmbeddings": 256}},
        "method": "full",
        "dataset": {"sources": [{"uri": str(data)}], "validation": {"fraction": 0.1}},
        "training": {**TRAINING, "maxLength": 256},
        "distributed": {"numProcPerNode": 1},
        "evaluation": {"maxRows": 4, "maxNewTokens": 4},
        "export": {"precisions": ["fp32"], "parity": parity},
    }
    (work / "config.json").write_text(json.dumps({"name": "tiny", "spec": spec}))
    return work


def stages_of(work: Path, names: list[str]) -> list[StageCommand]:
    def progress() -> float:
        done = [int(path.parent.name.rsplit("-", 1)[1]) for path in work.glob("train/checkpoints/*/complete.json")]
        return max(done, default=0) / TRAINING["maxSteps"]

    log = work / "train" / "training_log.jsonl"
    few = max(1, KILLS // 5)  # so that training has most of them
    choices: dict[str, dict[str, Any]] = {
        "prepare": {"kills": few},
        "train": {"kills": KILLS - few * (len(names) - 1), "begun": log, "progress": progress},
        "publish": {"kills": few},
    }
    return [
        StageCommand(
            name,
            [sys.executable, "-m", "tunesmith_trainer", name, "--work", str(work)],
            work / name / "stage.json",
            **choices[name],
        )
        for name in names
    ]


def result(work: Path) -> dict[str, Any]:
    """What must be equal: the weights, the losses of each step, and what the artifact says of its files."""
    final = work / "train" / "final"
    manifest = work / "artifact" / "manifest.json"
    files = json.loads(manifest.read_text())["files"] if manifest.exists() else {}
    return {
        "weights": {path.name: path.read_bytes() for path in sorted(final.glob("*.safetensors"))},
        "log": [{k: e.get(k) for k in ("step", "epoch", "loss", "gradNorm", "evalLoss")} for e in log_of(work)],
        "files": {k: v["sha256"] for k, v in files.items() if k != "training_log.jsonl"},
    }


def check(tmp_path: Path, names: list[str], make: Callable[[Path], Path], seed: int) -> None:
    env, chance = child_environment(), random.Random(seed)
    reference = make(tmp_path / "undisturbed")
    durations = run_undisturbed(stages_of(reference, names), env)
    expected = result(reference)
    assert expected["weights"]
    print("seed", seed, "undisturbed:", durations)
    kills: list[str] = []
    jobs = 0
    # A job comes through after some kills; then another one is begun, until there were enough, and of each stage some.
    while len(kills) < KILLS or set(kills) != set(names):
        jobs += 1
        assert jobs <= KILLS + 2, "the moments drawn are too late to hit anything"
        work = make(tmp_path / f"killed-{jobs}")
        stages = stages_of(work, names)
        if len(kills) >= KILLS:
            stages = [replace(stage, kills=0) if stage.name in kills else stage for stage in stages]
        most = max(KILLS - len(kills), len(stages))
        kills += run_with_kills(stages, work, durations, most=most, chance=chance, env=env)
        found = result(work)
        assert found["log"] == expected["log"]
        assert found["weights"] == expected["weights"]
        assert found["files"] == expected["files"]
        shutil.rmtree(work)


@pytest.mark.slow
def test_all_stages(tmp_path: Path) -> None:
    check(tmp_path, ["prepare", "train", "publish"], whole_job, SEED)


@pytest.mark.long  # a cell of each technique is killed too
@pytest.mark.slow
def test_training_in_two_processes(tmp_path: Path) -> None:
    """By ZeRO-3, which parts the most; each strategy's processes are killed once in tests of the techniques."""

    def make(work: Path) -> Path:
        return training_job(work, training=TRAINING, distributed={"numProcPerNode": 2, "strategy": "zero3"}, rows=96)

    check(tmp_path, ["train"], make, SEED)
