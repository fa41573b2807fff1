"""What each method costs on one model and one data set: trained parameters, memory, speed, size of what is kept.

A Llama at random weights, rows of 500 tokens, one process. Memory is the largest that was in use: of the GPU
where there is one, else of the process, with all libraries in it. Speed is that of the steps but the first one. In
parentheses: in times of the first method.

    python tests/bench/methods.py
    python tests/bench/methods.py --model 135m --steps 3    # 7 minutes on 2 cores
    python tests/bench/methods.py --model 1b    # 1.1 billion parameters, on a GPU
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

from support.bench_jobs import LONGEST, MODELS, Model, steady_speed
from support.training import train_command

CHECKPOINTING = {"gradientCheckpointing": True}
RUNS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "full, ZeRO 2": {"method": "full", "distributed": {"strategy": "zero2"}},
    "full, ZeRO 3": {"method": "full", "distributed": {"strategy": "zero3"}},
    "full, gradientCheckpointing": {"method": "full", "training": CHECKPOINTING},
    "lora": {"method": "lora"},
    "lora, gradientCheckpointing": {"method": "lora", "training": CHECKPOINTING},
    "dora": {"method": "dora"},
    "dora, gradientCheckpointing": {"method": "dora", "training": CHECKPOINTING},
}


def measure(model: Model, work: Path, base: Path, choices: dict[str, Any], steps: int) -> dict[str, Any]:
    """Train as a process and return the run's marker and metrics, its speed, and the bytes of the trained weights."""
    model.write_job(work, base, steps, shortest=LONGEST, **choices)
    process = subprocess.run(train_command(work), capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(process.stderr)
    parts = (json.loads((work / "train" / name).read_text()) for name in ("stage.json", "metrics.json"))
    size = sum(path.stat().st_size for path in (work / "train" / "final").glob("*.safetensors"))
    run = {key: value for part in parts for key, value in part.items()}
    return {**run, "bytes": size, "speed": steady_speed(work)}


def main() -> None:
    """Measure all methods and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="4m", help="size of the model")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="METHOD", help="some of them")
    options = parser.parse_args()
    model = MODELS[options.model]
    found = {}
    with tempfile.TemporaryDirectory() as shared:
        base = model.save(Path(shared) / "base")
        for name in options.only:
            with tempfile.TemporaryDirectory() as folder:
                found[name] = measure(model, Path(folder) / "job", base, RUNS[name], options.steps)
            print(f"{name}: {found[name]['seconds']:.0f} s", file=sys.stderr)
    first = found[options.only[0]]
    print("| method | trained parameters | memory, GiB | useful tokens/s | weights kept, MB |\n|---|---|---|---|---|")
    for name, run in found.items():
        share = run["trainedParameters"] / run["totalParameters"]
        memory, speed = run["peakMemoryBytes"], run["speed"]
        print(
            f"| {name} | {run['trainedParameters'] / 1e6:.1f} M ({share:.1%}) "
            f"| {memory / 2**30:.2f} ({memory / first['peakMemoryBytes']:.2f}) "
            f"| {speed:.0f} ({speed / first['speed']:.2f}) | {run['bytes'] / 1e6:.1f} |"
        )


if __name__ == "__main__":
    main()
