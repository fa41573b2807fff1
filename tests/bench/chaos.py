"""A server among clients that are slow, gone, half-open and wrong, for an hour: memory stays flat, no slot is lost.

Good clients ask between them, and must get what they get alone. Every ten seconds the server's memory, open files and
slots are read; the memory of the last third is compared with that of the second.

    python tests/bench/chaos.py                 # an hour
    python tests/bench/chaos.py --minutes 1
"""

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.progress import Progress

from support.chaos import Chaos, State, state_of
from support.tiny_models import build_model, export_onnx, write_manifest

INTERVAL = 10
HALF_OPEN = 1000
GROWTH = 1.05


async def run(chaos: Chaos, pid: int, seconds: float) -> list[State]:
    """Let clients come for some seconds; returns what the server held meanwhile."""
    end = time.monotonic() + seconds
    states: list[State] = []

    async def watch() -> None:
        with Progress(transient=True) as bar:
            task = bar.add_task("chaos", total=seconds)
            while (left := end - time.monotonic()) > 0:
                await asyncio.sleep(min(INTERVAL, left))
                states.append(await asyncio.to_thread(state_of, chaos.url, pid))
                bar.update(task, completed=seconds - left, description=f"{states[-1].memory:.0f} MiB")

    async def half_open() -> None:
        while time.monotonic() < end:
            await chaos.half_open(min(60.0, max(0.0, end - time.monotonic())))

    crowd = [half_open() for _ in range(HALF_OPEN)]
    await asyncio.gather(watch(), chaos.run(lambda: time.monotonic() < end, 16), *crowd)
    return states


def main() -> None:
    """Run, print, and fail where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "tiny"
        model = build_model(folder.with_name("tiny.hf"))
        export_onnx(model, folder, "fp32")
        write_manifest(folder)
        command = [sys.executable, "-m", "tunesmith_serving", "--artifact", str(folder), "--port", "0"]
        # A prefix cache that is full within the first minute: one that fills for an hour would look like a leak.
        command += ["--slots", "8", "--max-queue", "32", "--threads", "1", "--prefix-cache-memory", "16Mi"]
        log = (folder.parent / "log").open("w+")
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[1]
            chaos = Chaos(url, "", random.Random(options.seed))
            _, chaos.expected = asyncio.run(chaos.ask())
            states = asyncio.run(run(chaos, server.pid, options.minutes * 60))
            time.sleep(3)
            last = state_of(url, server.pid)
        finally:
            server.terminate()
            server.wait(60)
        log.seek(0)
        print(summary(chaos, states, last, log.read()))


def summary(chaos: Chaos, states: list[State], last: State, log: str) -> str:
    """Return what happened; ends the program where something is wrong."""
    third = max(1, len(states) // 3)
    before, after = (
        statistics.median(state.memory for state in part) for part in (states[third : 2 * third], states[-third:])
    )
    lines = [f"{count:>9,} {what}" for what, count in sorted(chaos.seen.items())]
    lines.append(f"memory {before:.1f} MiB, then {after:.1f}; most {max(state.memory for state in states):.1f}")
    lines.append(f"open files: most {max(state.files for state in states)}, at the end {last.files}")
    problems = [*dict.fromkeys(chaos.wrong)]
    if after > before * GROWTH:
        problems.append("memory grows")
    if last.slots or last.waiting:
        problems.append(f"{last.slots:.0f} slots are in use and {last.waiting:.0f} requests wait, though nobody asks")
    if log:
        problems.append(f"the server has logged:\n{log[-2000:]}")
    if problems:
        raise SystemExit("\n".join([*lines, *problems]))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
