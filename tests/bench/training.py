"""Useful tokens per second of training, against plain Hugging Face Trainer, on rows of 10 to 500 tokens.

One Llama of 3.7 million parameters at random weights, rows of 8 in a forward pass, fp32 where there is no GPU, one
checkpoint at the end. Each contestant is a process of its own; they run in rounds, one after the other. Useful tokens
are those that are no padding; seconds are those of the training loop.

    python tests/bench/training.py            # about 6 minutes on 2 cores
    python tests/bench/training.py --quick    # few steps: shows that everything runs
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.training import train_command, training_job

SIZES = {
    "vocab_size": 2048,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
BATCH = 8
LONGEST, SHORTEST = 500, 10
CONTESTANTS = {
    "HF Trainer, padded to 512": "fixed",
    "HF Trainer, padded to the longest of a batch": "longest",
    "HF Trainer, padded, train_sampling_strategy=group_by_length": "grouped",
    "tunesmith": "tunesmith",
}


def write_job(work: Path, rows: int, steps: int) -> None:
    """A work folder whose rows have all lengths from 10 to 500 alike, all tokens learned."""
    import numpy as np

    from support.training import tiny_llama
    from tunesmith_trainer.prepared import TokenStore

    training = {"globalBatchSize": BATCH, "microBatchSize": BATCH, "maxSteps": steps, "maxLength": 512}
    training_job(work, training={**training, "checkpoint": {"everySteps": steps}}, rows=rows, validation=0)
    random = np.random.default_rng(5)
    lengths = random.integers(SHORTEST, LONGEST + 1, rows)
    tokens = [random.integers(3, SIZES["vocab_size"], length).tolist() for length in lengths]
    TokenStore.write(work / "prepare" / "data" / "train", [(ids, [1] * len(ids)) for ids in tokens])
    tiny_llama(work / "base", **SIZES)
    marker = {"inputs": "prepared", "model": {"path": "base"}, "data": {"trainRows": rows}}
    (work / "prepare" / "stage.json").write_text(json.dumps(marker))


def hugging_face(work: Path, padding: str, steps: int) -> float:
    """Train as one would with transformers alone and return useful tokens per second."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    from tunesmith_trainer.prepared import TokenStore

    store = TokenStore.open(work / "prepare" / "data" / "train")
    rows = [{"input_ids": store[i][0].tolist(), "length": len(store[i][0])} for i in range(len(store))]
    seen = 0

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        nonlocal seen
        seen += sum(len(row["input_ids"]) for row in batch)
        longest = 512 if padding == "fixed" else max(len(row["input_ids"]) for row in batch)
        ids = torch.zeros((len(batch), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(batch):
            ids[index, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
            mask[index, : len(row["input_ids"])] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}

    class Clock(TrainerCallback):
        seconds = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            Clock.seconds = -time.monotonic()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            Clock.seconds += time.monotonic()

    arguments = TrainingArguments(
        output_dir=str(work / "hf"),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=0.003,
        save_steps=steps,
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        train_sampling_strategy="group_by_length" if padding == "grouped" else "random",
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
    )
    model = AutoModelForCausalLM.from_pretrained(work / "base", dtype=torch.float32)
    Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[Clock()]).train()
    return seen / Clock.seconds


def run(work: Path, contestant: str, steps: int) -> float:
    """Run one contestant as a process and return its useful tokens per second."""
    if contestant == "tunesmith":
        subprocess.run(train_command(work), check=True, capture_output=True)
        return float(json.loads((work / "train" / "metrics.json").read_text())["tokensPerSecond"])
    command = [sys.executable, __file__, "--contestant", contestant, "--work", str(work), "--steps", str(steps)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Measure all contestants in rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        print(hugging_face(options.work, options.contestant, options.steps))
        return
    if options.quick:
        options.rounds, options.steps = 1, 10
    speeds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for _ in range(options.rounds):
        for name, contestant in CONTESTANTS.items():
            with tempfile.TemporaryDirectory() as folder:
                write_job(Path(folder) / "job", options.steps * BATCH, options.steps)
                speeds[name].append(run(Path(folder) / "job", contestant, options.steps))
    ours = statistics.median(speeds["tunesmith"])
    print("| training | useful tokens/s (min to max) | tunesmith over it |\n|---|---|---|")
    for name, values in speeds.items():
        middle = statistics.median(values)
        print(f"| {name} | {middle:.0f} ({min(values):.0f} to {max(values):.0f}) | {ours / middle:.2f} |")


if __name__ == "__main__":
    main()
