"""Memory and time of `prepare` over data of different sizes: more rows take no more memory.

Makes JSON lines with conversations (500 to 2,000 characters, like those of public sets for instruction tuning, 2% of
them repeated), prepares each file in a process of its own with a small new model, and prints the peak of the process
tree's resident memory and the rows a second.

    python tests/bench/prepare_size.py                       # 50 MB and 5 GB; needs 20 GB of disk, about an hour
    python tests/bench/prepare_size.py --sizes 50 500        # megabytes
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.prepare_runs import write_job

MODEL = {"scratch": {"architecture": "llama", "hiddenSize": 64, "intermediateSize": 128, "numHiddenLayers": 2}}
ALLOWED = 1e9  # bytes by which the largest may be over the smallest
_REPEATED = 0.02


def write_conversations(path: Path, size: int) -> int:
    """Write rows until the file has so many bytes, and return how many there are."""
    chance = random.Random(0)
    letters = "etaoinshrdlucmfwygpbvk"
    words = ["".join(chance.choices(letters, k=min(12, 1 + int(chance.expovariate(0.25))))) for _ in range(8_000)]
    stock = chance.choices(words, [1 / (rank + 1) for rank in range(len(words))], k=1_000_000)

    def text(mean: float) -> str:
        length = min(3_000, 3 + int(chance.lognormvariate(mean, 0.8)))
        start = chance.randrange(len(stock) - length)
        return " ".join(stock[start : start + length])

    rows, written, earlier = 0, 0, ""
    with path.open("w") as file:
        while written < size:
            turns = [{"role": "user", "content": text(3.3)}, {"role": "assistant", "content": text(4.6)}]
            line = json.dumps({"messages": turns}) + "\n"
            if earlier and chance.random() < _REPEATED:
                line = earlier
            if chance.random() < 0.001:
                earlier = line
            file.write(line)
            rows, written = rows + 1, written + len(line)
    return rows


def resident(pid: int) -> int:
    """Return the resident memory of a process and all its children, bytes."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(resident(int(child)) for child in (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return total


def prepare(work: Path, rows: Path) -> tuple[int, float]:
    """Run the stage; return the peak of its memory, bytes, and its seconds."""
    write_job(work, rows, MODEL, training={"maxLength": 1024})
    started = time.monotonic()
    command = [sys.executable, "-m", "tunesmith_trainer", "prepare", "--work", str(work)]
    process = subprocess.Popen(command)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    process.wait()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"prepare ended with {process.returncode}")
    return peak, time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 5000], help="megabytes of data")
    parser.add_argument("--folder", type=Path, help="where to put the data (a temporary folder)")
    options = parser.parse_args()
    peaks: list[int] = []
    for size in options.sizes:
        folder = Path(tempfile.mkdtemp(prefix="prepare-size-", dir=options.folder))
        try:
            needed = 3 * size * 1_000_000
            if shutil.disk_usage(folder).free < needed:
                raise SystemExit(f"{folder}: {needed / 1e9:.0f} GB are needed")
            rows = write_conversations(folder / "rows.jsonl", size * 1_000_000)
            print(f"{size} MB: {rows:,} rows", flush=True)
            peak, seconds = prepare(folder / "work", folder / "rows.jsonl")
            result = json.loads((folder / "work" / "prepare" / "stage.json").read_bytes())["data"]
            report = json.loads((folder / "work" / "prepare" / "data" / "data_report.json").read_bytes())
            print(
                f"{size} MB: peak {peak / 1e6:,.0f} MB, {seconds:,.0f} s, {rows / seconds:,.0f} rows/s, "
                f"{result['trainTokens']:,} tokens, {report['duplicates']['rows']:,} duplicates",
                flush=True,
            )
            peaks.append(peak)
        finally:
            shutil.rmtree(folder)
    growth = peaks[-1] - peaks[0]
    print(f"growth: {growth / 1e6:,.0f} MB")
    if growth > ALLOWED:
        raise SystemExit("the largest takes too much memory over the smallest")


if __name__ == "__main__":
    main()
