"""Useful tokens per second of training, against plain Hugging Face Trainer, on rows of 10 to 500 tokens.

One Llama at random weights, trained as a whole: of 4.2 million parameters, or on a GPU of the shape of TinyLlama-1.1B.
8 or 32 rows in a forward pass, fp32 where there is no GPU. Each contestant is a process of its own; they run in rounds,
one after the other. Useful tokens are those that are no padding; the seconds are those of all steps but the first.

    python tests/bench/training.py            # about 12 minutes on 2 cores
    python tests/bench/training.py --quick    # few steps: shows that everything runs
    python tests/bench/training.py --model 1b --rounds 1 --steps 40    # 3 minutes on an H200
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

from support.bench_jobs import MODELS, Model, steady_speed
from support.training import train_command

CONTESTANTS = {
    "HF Trainer, padded to 512": "fixed",
    "HF Trainer, padded to the longest of a batch": "longest",
    "HF Trainer, padded, train_sampling_strategy=group_by_length": "grouped",
    "tunesmith": "tunesmith",
}


def hugging_face(model: Model, work: Path, base: Path, padding: str, steps: int) -> float:
    """Train as one would with transformers alone and return useful tokens per second."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    from tunesmith_trainer.data.token_store import TokenStore

    store = TokenStore.open(work / "prepare" / "data" / "train")
    rows = [{"input_ids": store[i][0].tolist(), "length": len(store[i][0])} for i in range(len(store))]
    seen: list[int] = []

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        seen.append(sum(len(row["input_ids"]) for row in batch))
        longest = 512 if padding == "fixed" else max(len(row["input_ids"]) for row in batch)
        ids = torch.zeros((len(batch), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(batch):
            ids[index, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
            mask[index, : len(row["input_ids"])] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}

    class Clock(TrainerCallback):
        times: ClassVar[list[float]] = []

        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            if torch.cuda.is_available() and state.global_step in (1, steps):
                torch.cuda.synchronize()
            self.times.append(time.monotonic())

    arguments = TrainingArguments(
        output_dir=str(work / "hf"),
        max_steps=steps,
        per_device_train_batch_size=model.batch,
        learning_rate=0.003,
        save_strategy="no",
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        train_sampling_strategy="group_by_length" if padding == "grouped" else "random",
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
    )
    whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    Trainer(model=whole, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[Clock()]).train()
    return sum(seen[1:steps]) / (Clock.times[-1] - Clock.times[0])


def run(options: argparse.Namespace, base: Path, work: Path, contestant: str) -> float:
    """Run one contestant as a process and return its useful tokens per second."""
    MODELS[options.model].write_job(work, base, options.steps)
    if contestant == "tunesmith":
        subprocess.run(train_command(work), check=True, capture_output=True)
        return steady_speed(work)
    command = [sys.executable, __file__, "--contestant", contestant, "--work", str(work), "--base", str(base)]
    command += ["--model", options.model, "--steps", str(options.steps)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Measure all contestants in rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--model", choices=MODELS, default="4m", help="size of the model")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        print(hugging_face(MODELS[options.model], options.work, options.base, options.contestant, options.steps))
        return
    if options.quick:
        options.rounds, options.steps = 1, 10
    speeds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as shared:
        base = MODELS[options.model].save(Path(shared) / "base")
        for _ in range(options.rounds):
            for name, contestant in CONTESTANTS.items():
                with tempfile.TemporaryDirectory() as folder:
                    speeds[name].append(run(options, base, Path(folder) / "job", contestant))
    ours = statistics.median(speeds["tunesmith"])
    print("| training | useful tokens/s (min to max) | tunesmith over it |\n|---|---|---|")
    for name, values in speeds.items():
        middle = statistics.median(values)
        print(f"| {name} | {middle:.0f} ({min(values):.0f} to {max(values):.0f}) | {ours / middle:.2f} |")


if __name__ == "__main__":
    main()
