"""Work folders that are ready to be trained: a tiny Llama, random rows, and the marker of a completed `prepare`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = 128


def tiny_llama(folder: Path, *, seed: int = 0, half: bool = False, **sizes: int) -> Path:
    """Save a random-weight Llama (0.1 million parameters) in the transformers layout, in fp32 or bf16."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        **sizes,
    }
    torch.manual_seed(seed)
    with torch.device("cuda" if half and torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(LlamaConfig(**settings)).to(torch.bfloat16 if half else torch.float32)
    folder.mkdir(parents=True)
    # Not save_pretrained, which imports DeepSpeed first.
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    model.config.architectures = ["LlamaForCausalLM"]
    (folder / "config.json").write_text(model.config.to_json_string(use_diff=False))
    return folder


def random_rows(count: int, *, seed: int = 0, longest: int = 40) -> list[tuple[list[int], list[int]]]:
    """Rows of very different lengths, of which few or many tokens are learned: half of them follow a simple rule."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        length = int(random.integers(4, longest))
        ids = (int(random.integers(1, 50)) + np.arange(length) * 3) % VOCABULARY
        noise = random.random(length) < 0.1
        ids[noise] = random.integers(0, VOCABULARY, int(noise.sum()))
        learned = int(random.integers(1, length))
        rows.append((ids.tolist(), [0] * (length - learned) + [1] * learned))
    return rows


def training_job(
    work: Path,
    *,
    method: str = "full",
    training: dict[str, Any] | None = None,
    distributed: dict[str, Any] | None = None,
    adapter: dict[str, Any] | None = None,
    rows: int = 48,
    validation: int = 6,
) -> Path:
    """Make a work folder whose next stage is `train`."""
    from tunesmith_trainer.data.token_store import TokenStore

    spec: dict[str, Any] = {
        "model": {"scratch": {}},
        "method": method,
        "dataset": {"sources": [{"uri": "./rows.jsonl"}]},
        "training": {
            "globalBatchSize": 8,
            "maxSteps": 6,
            "learningRate": 0.003,
            "warmupRatio": 0.1,
            **(training or {}),
        },
        "distributed": {"numProcPerNode": 1, **(distributed or {})},
    }
    if adapter is not None:
        spec["adapter"] = adapter
    tiny_llama(work / "prepare" / "model")
    TokenStore.write(work / "prepare" / "data" / "train", random_rows(rows))
    TokenStore.write(work / "prepare" / "data" / "validation", random_rows(validation, seed=1))
    (work / "config.json").write_text(json.dumps({"name": "tiny", "spec": spec}))
    marker = {"inputs": "prepared", "model": {"path": "prepare/model"}, "data": {"trainRows": rows}}
    (work / "prepare" / "stage.json").write_text(json.dumps(marker))
    return work


def train_command(work: Path) -> list[str]:
    """The command line of the stage."""
    return [sys.executable, "-m", "tunesmith_trainer", "train", "--work", str(work)]


def child_environment(**extra: str) -> dict[str, str]:
    """The environment of a training process in tests: one thread, so that results do not depend on the machine."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **extra}


def train(work: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run the train stage as a command."""
    return subprocess.run(
        train_command(work), capture_output=True, text=True, env=child_environment(**extra), timeout=300, check=False
    )


def log_of(work: Path) -> list[dict[str, Any]]:
    """The entries of the training log."""
    return [json.loads(line) for line in (work / "train" / "training_log.jsonl").read_text().splitlines()]
