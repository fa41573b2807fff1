"""What the scripts of this folder are told, and what all of them train with."""

import argparse
import json
import math
from pathlib import Path
from typing import Any


def read_arguments() -> argparse.Namespace:
    """Return the options of the command line; `train` and `validation` are rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True, help="the model to train, with its head")
    parser.add_argument("--train", type=_rows, required=True)
    parser.add_argument("--validation", type=_rows, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True)
    return parser.parse_args()


def _rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def training(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of transformers' TrainingArguments: 16 rows a step, AdamW, a cosine after a warm-up."""
    return {
        "output_dir": str(options.work),
        "max_steps": options.steps,
        "per_device_train_batch_size": 16,
        "learning_rate": options.rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": math.ceil(0.1 * options.steps),
        "seed": options.seed,
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }
