"""Jobs whose training is measured: Llamas at random weights, rows of 10 to 500 tokens that are all learned."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from support.training import log_of, tiny_llama, training_job

LONGEST, SHORTEST = 500, 10


@dataclass(frozen=True)
class Model:
    """A model and how it is trained.

    Attributes:
        batch: Rows of a step, which is one forward pass: on a GPU as many as keep it busy.
        half: Whether the base model is saved in bf16, as those are that one downloads.
        sizes: Fields of its LlamaConfig.
    """

    batch: int
    half: bool
    sizes: dict[str, int]

    def save(self, folder: Path) -> Path:
        """Save it at random weights."""
        return tiny_llama(folder, half=self.half, **self.sizes)

    def write_job(
        self,
        work: Path,
        base: Path,
        steps: int,
        *,
        training: dict[str, Any] | None = None,
        shortest: int = SHORTEST,
        **choices: Any,
    ) -> Path:
        """Make a work folder whose rows have all lengths up to 500 tokens alike, all tokens learned.

        Args:
            work: The folder to make.
            base: Where the model was saved; it is used in place.
            steps: Steps of training, each on rows of its own.
            training: Further fields of spec.training.
            shortest: Tokens of the shortest rows.
            choices: Further arguments of `training_job`.
        """
        from tunesmith_trainer.data.token_store import TokenStore

        rows = steps * self.batch
        training = {
            "globalBatchSize": self.batch,
            "microBatchSize": self.batch,
            "maxLength": 512,
            "maxSteps": steps,
            "learningRate": 0.0003,
            "checkpoint": {"everySteps": steps},
            **(training or {}),
        }
        training_job(work, training=training, rows=rows, validation=0, **choices)
        random = np.random.default_rng(5)
        lengths = random.integers(shortest, LONGEST + 1, rows)
        tokens = [random.integers(3, self.sizes["vocab_size"], length).tolist() for length in lengths]
        TokenStore.write(work / "prepare" / "data" / "train", [(ids, [1] * len(ids)) for ids in tokens])
        marker = {"inputs": "prepared", "model": {"path": str(base.absolute())}, "data": {"trainRows": rows}}
        (work / "prepare" / "stage.json").write_text(json.dumps(marker))
        return work


def steady_speed(work: Path) -> float:
    """Return the useful tokens a second of a run's steps but the first, in which libraries still set themselves up."""
    entries = log_of(work)
    first, last = entries[0], entries[-1]
    seconds = datetime.fromisoformat(last["time"]) - datetime.fromisoformat(first["time"])
    return float((last["tokens"] - first["tokens"]) / seconds.total_seconds())


MODELS = {
    "4m": Model(
        batch=8,
        half=False,
        sizes={
            "vocab_size": 2048,
            "hidden_size": 256,
            "intermediate_size": 768,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
        },
    ),
    "135m": Model(  # the shape of SmolLM2-135M
        batch=4,
        half=True,
        sizes={
            "vocab_size": 49_152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "max_position_embeddings": 2048,
        },
    ),
    "1b": Model(  # the shape of TinyLlama-1.1B
        batch=32,
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
}
