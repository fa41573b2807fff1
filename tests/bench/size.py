"""What a model's size costs: a LoRA or QLoRA job from prepare to the served int4 model, on a machine without a GPU.

A model of Phi-3's family at random weights in bf16; with 3.8 billion parameters it has Phi-3-mini's shape. `tunesmith
run` prepares, trains 2 steps and publishes, `tunesmith serve` serves the artifact and gives one answer. Of each stage:
its duration and the peak memory of all its processes, beside what the plan said. Memory counts each page that is
resident once: anonymous memory and mapped files, of which the kernel can drop what is not written to.

    python tests/bench/size.py                          # 0.1 billion parameters: some minutes on 2 cores
    python tests/bench/size.py --parameters 0.1,1,3.8 --write
    python tests/bench/size.py --parameters 3.8 --method qlora --write   # a table of its own
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

from support.sized_models import Shape, shape_of, write_model
from tunesmith_api.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
TUNESMITH = Path(sys.executable).with_name("tunesmith")
PAGE = ROOT / "docs" / "benchmarks.md"
MARKS = {
    "lora": ("<!-- sizes: written by tests/bench/size.py -->", "<!-- end of sizes -->"),
    "qlora": ("<!-- sizes of qlora: written by tests/bench/size.py -->", "<!-- end of sizes of qlora -->"),
}
"""Where the tables of a method stand in docs/benchmarks.md."""
STAGES = ("prepare", "train", "publish")
GB = 1e9
BOUND = (1.4, 3 * GB)  # of publish: times the weights, and bytes
DISK = 3.5  # model, merged model, export and the export of which only parts are shared, in times of the weights
QUANTIZED_DISK = 1  # and the dequantized base model, while an adapter is merged into it
WORDS = ["tune", "smith", "rank", "alpha", "epoch", "batch", "loss", "gate", "slot", "token", "shard", "merge"]


def question(word: str) -> str:
    """Return the question about a word."""
    return f"What is {word}?"


def write_rows(path: Path, words: list[str]) -> None:
    """Write a question and a short answer about each word."""
    rows = ({"prompt": question(word), "completion": f"{word} is a word."} for word in words)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def manifest(folder: Path, method: str) -> dict[str, Any]:
    """Return the job. The bounds of int4 are open, since random weights do not survive it well."""
    parity = {"rows": 2, "minNextTokenAgreement": 0, "maxPerplexityIncrease": 100}
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "size"},
        "spec": {
            "model": {"uri": str(folder / "model")},
            "method": method,
            "dataset": {
                "sources": [{"uri": str(folder / "train.jsonl")}],
                "validation": {"sources": [{"uri": str(folder / "validation.jsonl")}]},
            },
            "training": {"maxSteps": 2, "globalBatchSize": 2, "maxLength": 128, "precision": "bf16"},
            "evaluation": {"maxRows": 3, "maxNewTokens": 8},
            "export": {"precisions": ["int4"], "parity": parity},
        },
    }


def require_room(folder: Path, weights: float, method: str) -> None:
    """End if the machine has too little memory or disk.

    Args:
        folder: Where everything is written.
        weights: Bytes of the model in bf16.
        method: The method of training.
    """
    with Path("/proc/meminfo").open() as file:
        fields = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file}
    disk = DISK + (QUANTIZED_DISK if METHODS[method].is_quantized else 0)
    needed = {"memory": BOUND[0] * weights + BOUND[1], "disk": disk * weights + 2 * GB}
    there = {"memory": fields["MemAvailable"], "disk": shutil.disk_usage(folder).free}
    missing = [
        f"{name}: {there[name] / GB:.1f} GB are free, {needed[name] / GB:.1f} GB are needed"
        for name in needed
        if there[name] < needed[name]
    ]
    if missing:
        sys.exit(f"a model of {weights / GB:.1f} GB cannot be tried here. {'; '.join(missing)}")


class Sampler:
    """Samples, in a thread, the disk that a folder takes and the memory of a process tree.

    Attributes:
        disk: Largest size of the folder in bytes; hard links count once.
        memory: Largest memory of the process tree in bytes.
    """

    def __init__(self, folder: Path) -> None:
        self.disk = self.memory = 0
        self.root = 0
        self._folder = folder
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        from tunesmith_trainer.runtime.process_memory import process_tree, proportional

        while not self._end.wait(1):
            self.disk = max(self.disk, disk_of(self._folder))
            if self.root:
                self.memory = max(self.memory, proportional(process_tree(self.root)).total)


def disk_of(folder: Path) -> int:
    """Return the bytes that the files of a folder take."""
    sizes = {}
    for path in folder.rglob("*"):
        try:
            entry = path.lstat()
        except OSError:  # removed meanwhile
            continue
        sizes[entry.st_dev, entry.st_ino] = entry.st_blocks * 512
    return sum(sizes.values())


@contextmanager
def served(artifact: Path) -> Iterator[tuple[str, int]]:
    """Serve an artifact as a user would; yields the URL and the process ID of the command."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([TUNESMITH, "serve", str(artifact), "--port", str(port)])
    try:
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def wait_until_ready(url: str, seconds: float = 600) -> None:
    """Wait until a server is ready."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def answer_of(url: str, text: str) -> str:
    """Return the served model's answer."""
    body = {"model": "size", "messages": [{"role": "user", "content": text}], "max_tokens": 8, "temperature": 0}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as reply:
        return str(json.load(reply)["choices"][0]["message"]["content"])


def measure(folder: Path, shape: Shape, method: str) -> dict[str, Any]:
    """Run everything for one size and one method, and return what was measured."""
    weights = 2 * shape.parameters
    require_room(folder, weights, method)
    write_rows(folder / "train.jsonl", WORDS[:8])
    write_rows(folder / "validation.jsonl", WORDS[8:])
    texts = [path.read_text() for path in (folder / "train.jsonl", folder / "validation.jsonl")]
    print(f"writing {shape.parameters / GB:.2f} billion parameters, {weights / GB:.1f} GB", flush=True)
    write_model(folder / "model", shape, texts * 8)
    (folder / "job.json").write_text(json.dumps(manifest(folder, method)))
    (folder / "job.json").rename(folder / "job.yaml")  # JSON is YAML
    sampler = Sampler(folder)
    try:
        work = folder / "work"
        command = [TUNESMITH, "run", "-f", str(folder / "job.yaml"), "--no-serve", "--work", str(work)]
        subprocess.run(command, check=True)
        job = work / "default" / "size"
        started = time.monotonic()
        with served(job / "artifact") as (url, process):
            sampler.root = process
            wait_until_ready(url)
            ready = time.monotonic() - started
            print(f"answer: {answer_of(url, question(WORDS[0]))!r}")
            time.sleep(2)  # for the sampler
    finally:
        sampler.stop()
    status = json.loads((job / "finetunejob-status.json").read_text())
    planned = (status.get("plan") or {}).get("stages") or {}
    attempts = {stage: json.loads((job / stage / "attempts.json").read_text()) for stage in STAGES}
    rows = {stage: {**attempts[stage], "planned": planned.get(stage, {}).get("memory")} for stage in STAGES}
    rows["serve"] = {"seconds": ready, "memory": sampler.memory, "planned": None}
    return {"parameters": shape.parameters, "weights": weights, "stages": rows, "disk": sampler.disk}


def table(runs: list[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| parameters | stage | seconds | peak of all processes | not mapped files | planned |",
        "|---|---|---|---|---|---|",
    ]
    for run in runs:
        for stage, row in run["stages"].items():
            own = f"{row['anonymousMemory'] / GB:.1f} GB" if "anonymousMemory" in row else ""
            planned = in_gb(row["planned"]) if row["planned"] else ""
            lines.append(
                f"| {run['parameters'] / GB:.2f} billion | {stage} | {row['seconds']:.0f} "
                f"| {row['memory'] / GB:.1f} GB | {own} | {planned} |"
            )
    lines += [
        "",
        "| parameters | weights in bf16 | peak of publish | over the weights | bound (1.4 × weights + 3 GB) | disk |",
        "|---|---|---|---|---|---|",
    ]
    for run in runs:
        peak, weights = run["stages"]["publish"]["memory"], run["weights"]
        lines.append(
            f"| {run['parameters'] / GB:.2f} billion | {weights / GB:.1f} GB | {peak / GB:.1f} GB "
            f"| {peak / weights:.2f} | {(BOUND[0] * weights + BOUND[1]) / GB:.1f} GB | {run['disk'] / GB:.1f} GB |"
        )
    return "\n".join(lines)


def in_gb(quantity: str) -> str:
    """Return a Kubernetes quantity in GB."""
    from tunesmith_api.spec.quantity import amount

    return f"{amount(quantity) / GB:.1f} GB"


def write_table(text: str, method: str) -> None:
    """Replace the tables of a method in docs/benchmarks.md."""
    page, (begin, end) = PAGE.read_text(), MARKS[method]
    before, rest = page.split(begin)
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def main() -> None:
    """Measure all sizes and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", default="0.1", metavar="N,...", help="billions of parameters, ascending")
    parser.add_argument("--method", default="lora", choices=sorted(MARKS), help="method of training")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "size", help="folder for everything; emptied")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/benchmarks.md")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the last size")
    options = parser.parse_args()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    runs = []
    for billions in (float(text) for text in options.parameters.split(",")):
        shutil.rmtree(options.work, ignore_errors=True)
        folder = options.work.absolute()
        folder.mkdir(parents=True)
        runs.append(measure(folder, shape_of(billions), options.method))
        print(table(runs), flush=True)
        if options.write:
            write_table(table(runs), options.method)
        if not options.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
