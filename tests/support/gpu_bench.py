"""What the benchmark of training on a GPU measures: models, rows, and how fast the device multiplies matrices."""

import json
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from support.training import log_of, tiny_llama, training_job

WARM_UP = 3
"""Steps that are not measured: libraries set themselves up in them."""

RANK = 16


@dataclass(frozen=True)
class Shape:
    """A model, the rows and how they are trained.

    Attributes:
        rows: Rows of a step.
        micro: Rows of a forward pass.
        steps: Measured steps.
        longest: Tokens of the longest row. Lengths are log-normal, as those of instruction data about are.
        middle: The median of the lengths.
        half: Whether the base model is saved in bf16.
        sizes: Fields of its LlamaConfig.
    """

    rows: int
    micro: int
    steps: int
    longest: int
    middle: int
    half: bool
    sizes: dict[str, int] = field(hash=False)

    def save(self, folder: Path) -> Path:
        """Save the model at random weights."""
        return tiny_llama(folder, half=self.half, **self.sizes)

    def lengths(self) -> np.ndarray:
        """int64 [rows of all steps], the tokens of each row."""
        count = (WARM_UP + self.steps) * self.rows
        drawn = np.random.default_rng(5).lognormal(np.log(self.middle), 0.8, count)
        return np.clip(drawn, 16, self.longest).astype(np.int64)

    def texts(self) -> list[list[int]]:
        """The tokens of each row, all of them learned."""
        random = np.random.default_rng(6)
        return [random.integers(3, self.sizes["vocab_size"], length).tolist() for length in self.lengths()]

    def flops_per_token(self, method: str) -> float:
        """Return the multiplications and additions of a token, forward and backward, attention not counted.

        A frozen matrix has no gradient of its own: 4 instead of 6 for each of its numbers.
        """
        of = self.sizes
        size = of["hidden_size"] // of["num_attention_heads"]
        attention = of["hidden_size"] * size * (2 * of["num_attention_heads"] + 2 * of["num_key_value_heads"])
        layer = attention + 3 * of["hidden_size"] * of["intermediate_size"]
        numbers = of["num_hidden_layers"] * layer + of["hidden_size"] * of["vocab_size"]
        return float((6 if method == "full" else 4) * numbers)

    def write_job(self, work: Path, base: Path, method: str) -> Path:
        """Make a work folder that is ready to be trained."""
        from tunesmith_trainer.data.token_store import TokenStore

        steps, texts = WARM_UP + self.steps, self.texts()
        training = {
            "globalBatchSize": self.rows,
            "microBatchSize": self.micro,
            "maxLength": self.longest,
            "maxSteps": steps,
            "learningRate": 0.0001,
            "checkpoint": {"everySteps": steps},
        }
        adapter = None if method == "full" else {"rank": RANK}
        training_job(work, method=method, training=training, adapter=adapter, rows=8, validation=0)
        TokenStore.write(work / "prepare" / "data" / "train", [(ids, [1] * len(ids)) for ids in texts])
        marker = {"inputs": "prepared", "model": {"path": str(base.absolute())}, "data": {"trainRows": len(texts)}}
        (work / "prepare" / "stage.json").write_text(json.dumps(marker))
        return work


def steady_speed(work: Path) -> float:
    """Return the useful tokens a second of a run's measured steps."""
    entries = log_of(work)
    first, last = entries[WARM_UP - 1], entries[-1]
    seconds = datetime.fromisoformat(last["time"]) - datetime.fromisoformat(first["time"])
    return float((last["tokens"] - first["tokens"]) / seconds.total_seconds())


def matmul_ceiling(*, cpu: bool) -> float:
    """Return the most operations a second that the device does in a product of matrices (bf16, on a CPU fp32)."""
    import torch

    device, dtype = ("cpu", torch.float32) if cpu else ("cuda", torch.bfloat16)
    best = 0.0
    for rows, inner, columns in [(512,) * 3] if cpu else [(8192,) * 3, (8192, 4096, 14336), (16384, 4096, 4096)]:
        a: Any = torch.randn(rows, inner, device=device, dtype=dtype)
        b = torch.randn(inner, columns, device=device, dtype=dtype)
        for _ in range(5):
            repeats, started = 20, _now(cpu)
            for _ in range(repeats):
                a @ b
            best = max(best, 2 * rows * inner * columns * repeats / (_now(cpu) - started))
    return best


def _now(cpu: bool) -> float:
    if not cpu:
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


SHAPES = {
    "tiny": Shape(
        rows=8,
        micro=4,
        steps=3,
        longest=128,
        middle=24,
        half=False,
        sizes={
            "vocab_size": 256,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128,
        },
    ),
    "1b": Shape(  # of TinyLlama-1.1B
        rows=64,
        micro=8,
        steps=8,
        longest=2048,
        middle=245,
        half=True,
        sizes={
            "vocab_size": 32_000,
            "hidden_size": 2048,
            "intermediate_size": 5632,
            "num_hidden_layers": 22,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "max_position_embeddings": 2048,
        },
    ),
    "8b": Shape(  # of Llama-3.1-8B
        rows=16,
        micro=2,
        steps=6,
        longest=2048,
        middle=245,
        half=True,
        sizes={
            "vocab_size": 128_256,
            "hidden_size": 4096,
            "intermediate_size": 14_336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 2048,
        },
    ),
}
