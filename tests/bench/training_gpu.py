"""Useful tokens per second of training on a GPU, against HF Trainer, TRL's packing and a loop of one's own.

Llamas at random weights of the shapes of TinyLlama-1.1B (full and LoRA) and Llama-3.1-8B (LoRA), rows whose lengths are
log-normal up to 2048 tokens, all tokens learned. Each contestant is a process of its own; they run one after the other
on the same device. Useful tokens are those that are no padding. The share of the ceiling is what they need in products
of matrices (without attention), of what the device was measured to do in the largest products.

    python tests/bench/training_gpu.py                  # within 10 minutes on an H100; writes training-gpu.json
    python tests/bench/training_gpu.py --cpu --tiny     # shows on any machine that everything runs

TRL takes part if it is installed: pip install -e '.[bench]'. Its packing is meant for flash-attn, which needs a
compiler for CUDA: pip install flash-attn --no-build-isolation. Without it TRL runs on sdpa, and the table says so.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

from support.gpu_bench import SHAPES, matmul_ceiling, steady_speed
from support.training import train_command

TRL = "TRL SFTTrainer, packed"
CONTESTANTS = {
    "tunesmith": "tunesmith",
    "HF Trainer, padded to the longest of a batch": "longest",
    "HF Trainer, padded, group_by_length": "grouped",
    TRL: "trl",
    "PyTorch loop, batches of like length": "bare",
}
RUNS = [("1b", "full"), ("1b", "lora"), ("8b", "lora")]
TAKES = 75  # seconds that a contestant may take; none is begun with less time left


def contestant(name: str, shape: str, method: str, base: Path, work: Path) -> float:
    """Run one of the others in this process."""
    from support import gpu_contestants as others

    of = SHAPES[shape]
    if name == "trl":
        return others.trl_packed(of, method, base, work)
    if name == "bare":
        return others.bare_loop(of, method, base, work)
    return others.hugging_face(of, method, base, work, by_length=name == "grouped")


def measure(name: str, shape: str, method: str, base: Path, work: Path, environment: dict[str, str]) -> float:
    """Run a contestant as a process and return its useful tokens a second.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    options: dict[str, Any] = {"check": True, "capture_output": True, "text": True, "env": environment, "timeout": 300}
    if name == "tunesmith":
        SHAPES[shape].write_job(work, base, method)
        subprocess.run(train_command(work), **options)
        return steady_speed(work)
    command = [sys.executable, __file__, "--contestant", name, "--shape", shape, "--method", method]
    command += ["--base", str(base), "--work", str(work)]
    return float(subprocess.run(command, **options).stdout.splitlines()[-1])


def run_all(runs: list[tuple[str, str]], deadline: float, ceiling: float, environment: dict[str, str]) -> list[Any]:
    """Return a row for each contestant and run; those that failed or had no time left say so."""
    rows: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        bases: dict[str, Path] = {}
        for number, (shape, method) in enumerate(runs):
            if shape not in bases:
                bases[shape] = SHAPES[shape].save(Path(folder) / shape)
            for title, name in CONTESTANTS.items():
                row = {"model": shape, "method": method, "training": title, "tokensPerSecond": None, "note": ""}
                rows.append(row)
                if name == "trl" and importlib.util.find_spec("trl") is None:
                    row["note"] = "not installed"
                elif time.monotonic() + TAKES > deadline:
                    row["note"] = "no time left"
                else:
                    try:
                        work = Path(folder) / f"{number}-{name}"
                        row["tokensPerSecond"] = measure(name, shape, method, bases[shape], work, environment)
                        row["shareOfCeiling"] = row["tokensPerSecond"] * SHAPES[shape].flops_per_token(method) / ceiling
                    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                        row["note"] = " ".join(str(error.stderr or error).strip().splitlines()[-1:])[:160]
                    if name == "trl" and importlib.util.find_spec("flash_attn") is None:
                        row["note"] = row["note"] or "sdpa: flash-attn is not installed"
                print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def table(rows: list[Any]) -> str:
    """Return the table: tokens a second, tunesmith over each, and the share of the ceiling."""
    lines = ["| model | method | training | useful tokens/s | tunesmith over it | share of the ceiling | |"]
    lines += ["|---|---|---|---|---|---|---|"]
    ours = {(row["model"], row["method"]): row["tokensPerSecond"] for row in rows if row["training"] == "tunesmith"}
    for row in rows:
        speed, best = row["tokensPerSecond"], ours[row["model"], row["method"]]
        ratio = f"{best / speed:.2f}" if speed and best else ""
        numbers = (f"{speed:.0f}", ratio, f"{row['shareOfCeiling']:.0%}") if speed else ("", "", "")
        lines.append("| " + " | ".join([row["model"], row["method"], row["training"], *numbers, row["note"]]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure all contestants, print the table and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="run on the CPU, also where there is a GPU")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, few steps")
    parser.add_argument("--minutes", type=float, default=10, help="begin no contestant that might take longer")
    parser.add_argument("--only", help="the runs: 1b-full,1b-lora,8b-lora")
    parser.add_argument("--json", type=Path, default=Path("training-gpu.json"), help="where the numbers go")
    for name in ("contestant", "shape", "method"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    for name in ("work", "base"):
        parser.add_argument(f"--{name}", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        print(contestant(options.contestant, options.shape, options.method, options.base, options.work))
        return
    deadline = time.monotonic() + 60 * options.minutes
    environment = dict(os.environ)
    if options.cpu:
        environment["CUDA_VISIBLE_DEVICES"] = os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    cpu = not torch.cuda.is_available()
    if cpu and not options.cpu:
        parser.error("there is no NVIDIA GPU; --cpu --tiny shows that everything runs")
    runs = [("tiny", "full"), ("tiny", "lora")] if options.tiny else RUNS
    if options.only:
        runs = [run for run in runs if "-".join(run) in options.only.split(",")]
    ceiling = matmul_ceiling(cpu=cpu)
    device = "CPU" if cpu else torch.cuda.get_device_name()
    if not cpu:
        torch.cuda.empty_cache()
    rows = run_all(runs, deadline, ceiling, environment)
    print(table(rows))
    print(f"\n{device}, torch {torch.__version__}; products of matrices: {ceiling / 1e12:.3g} TFLOP/s.")
    about = {"device": device, "torch": torch.__version__, "ceiling": ceiling, "rows": rows}
    options.json.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
