"""64 adapters of rank 16 on one base: memory, tokens per second, and how soon a new one answers. All through HTTP.

The base is a random-weight Llama of SmolLM2-135M's shape in int4; the adapters are of all linear layers. One server is
measured in rounds: 8 clients that ask the base, 8 that ask one adapter, and 8 that ask an adapter each. Ratios are made
within each round; the table gives medians. Memory is that of the server's process: the whole of it (VmRSS), and what it
has besides pages of files, which the kernel takes back when it needs them (RssAnon).

    python tests/bench/adapters.py            # about 5 minutes on 2 cores that do nothing else, and 2 GB of disk
    python tests/bench/adapters.py --quick    # a tiny model and 16 adapters: shows that everything runs
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

import httpx

from bench.serving import SMOLLM2_135M, through_http
from support.lora_artifacts import make_base
from support.lora_variants import digest_of, random_adapter

RANK = 16
CLIENTS = 8
QUICK = {"vocab_size": 1024, "context_length": 512}


class Server:
    """A server that follows a list of adapters."""

    def __init__(self, base: Path, listed: Path, precision: str) -> None:
        self.listed = listed
        self.write([])
        command = [sys.executable, "-m", "tunesmith_serving", "--artifact", str(base), "--precision", precision]
        command += ["--port", "0", "--slots", str(CLIENTS), "--model-name", "base", "--context-length", "512"]
        command += ["--adapters", str(listed), "--prefix-cache-memory", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            raise SystemExit("the server did not start")
        self.url = line.split()[1]

    def write(self, adapters: list[Path]) -> None:
        """Replace the list."""
        entries = [{"name": item.name, "path": str(item), "digest": digest_of(item)} for item in adapters]
        new = self.listed.with_suffix(".new")
        new.write_text(json.dumps({"version": str(len(adapters)), "adapters": entries}))
        os.replace(new, self.listed)

    def wait(self, version: int) -> None:
        """Wait until the adapters of a list are loaded."""
        while True:
            answer = httpx.get(f"{self.url}/adapters").json()
            states = {item["state"] for item in answer["adapters"]}
            if "Failed" in states:
                raise SystemExit(f"an adapter could not be loaded: {answer}")
            if answer["version"] == str(version) and states <= {"Loaded"}:
                return
            time.sleep(0.05)

    def seconds_to_answer(self, adapters: list[Path]) -> float:
        """Seconds from a list with one more adapter to that adapter's first answer."""
        started = time.perf_counter()
        self.write(adapters)
        body = {"model": adapters[-1].name, "prompt": [5, 6, 7], "max_tokens": 1}
        while httpx.post(f"{self.url}/v1/completions", json=body, timeout=60).status_code == 404:
            time.sleep(0.02)
        return time.perf_counter() - started

    def memory(self) -> tuple[float, float]:
        """MiB besides pages of files, and all of them."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        found = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("Rss", "VmRSS"))}
        return found["RssAnon"], found["VmRSS"]


def measure(server: Server, models: list[str], draw: Any, vocabulary: int, tokens: int) -> float:  # noqa: ANN401
    """Tokens per second of 8 clients with two prompts each, which ask these models in turn."""
    prompts = draw.integers(300, vocabulary, (2 * CLIENTS, 32)).tolist()
    return through_http(server.url, prompts, CLIENTS, tokens, models).tokens_per_second


def main() -> None:
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model and few adapters")
    parser.add_argument("--rounds", type=int, help="rounds of measurements")
    parser.add_argument("--precision", default="int4", choices=["int4", "fp32"], help="precision of the base")
    parser.add_argument("--work", type=Path, help="folder that keeps the model and the adapters")
    options = parser.parse_args()
    sizes: dict[str, Any] = QUICK if options.quick else SMOLLM2_135M
    count, rounds, tokens = (16, 2, 8) if options.quick else (64, 5, 64)
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.work or Path(scratch)) / f"{'quick' if options.quick else '135m'}-{options.precision}"
        folder.mkdir(parents=True, exist_ok=True)
        base = folder / "base"
        if not (base / "manifest.json").exists():
            make_base(base, precisions=(options.precision,), **sizes)
        adapters = [folder / f"adapter-{index:02}" for index in range(count)]
        for index, adapter in enumerate(adapters):
            if not (adapter / "manifest.json").exists():
                random_adapter(base, adapter, RANK, index + 1)
        server = Server(base, Path(scratch) / "adapters.json", options.precision)
        try:
            run(server, adapters, options.rounds or rounds, np.random.default_rng(7), sizes["vocab_size"], tokens)
        finally:
            server.process.kill()
            server.process.wait()


def run(server: Server, adapters: list[Path], rounds: int, draw: Any, vocabulary: int, tokens: int) -> None:  # noqa: ANN401
    measure(server, ["base"], draw, vocabulary, tokens)
    alone = server.memory()
    server.write(adapters[:-4])
    server.wait(len(adapters) - 4)
    waits = [server.seconds_to_answer(adapters[: len(adapters) - left]) for left in (3, 2, 1, 0)]
    names = [adapter.name for adapter in adapters]
    for start in range(0, len(names), CLIENTS):  # each has been used once
        measure(server, names[start : start + CLIENTS], draw, vocabulary, 4)
    contestants = {"base": ["base"], "one adapter": names[:1], "8 adapters": names[:CLIENTS]}
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, models in contestants.items():
            speeds[name].append(measure(server, models, draw, vocabulary, tokens))
    full = server.memory()
    print("| 8 clients ask | tokens/s | of one adapter |\n|---|---|---|")
    for name, found in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(found, speeds["one adapter"], strict=True))
        print(f"| {name} | {statistics.median(found):,.0f} | {ratio:.2f} |")
    for what, before, after in zip(("besides pages of files", "in all"), alone, full, strict=True):
        ratio = after / before
        print(
            f"memory {what}: {before:,.0f} MiB alone, {after:,.0f} MiB with {len(names)} adapters ({ratio:.2f} times)"
        )
    print(f"from the list to the first answer: {statistics.median(waits):.2f} s, at most {max(waits):.2f} s")


if __name__ == "__main__":
    main()
