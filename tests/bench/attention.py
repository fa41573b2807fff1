"""Attention on the CPU: all scores of a run at once, in blocks, and with keys and values in int8 (at once).

A random-weight Llama of SmolLM2-135M's shape in int4, with int8 for runs of several tokens. A process of each kind
computes the same runs of the decoder in turns; ratios are to the first kind, made within each turn, and the table gives
medians.

    python tests/bench/attention.py            # 3 minutes on 2 cores
    python tests/bench/attention.py --quick    # a tiny model, one turn: shows that everything runs
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

from bench.serving import SMOLLM2_135M, keep_in_int8, make_exports
from support.precisions import exported_here

SWITCH = "ORT_GQA_DISABLE_FLASH_ATTENTION"
SLOTS, CONTEXT, CHUNK, MOST = 32, 1024, 128, 896
# Rows, new tokens of each, tokens that each holds before, and how often a turn computes it.
RUNS = [
    *((1, 1, past, 25) for past in (64, 192, 512)),
    *((8, 1, past, 10) for past in (64, 192, 512)),
    *((32, 1, past, 5) for past in (64, 192, 512)),
    *((1, tokens, past, 3) for tokens in (64, CHUNK) for past in (0, 384, 768)),
]


def work(artifact: Path) -> None:
    """Compute the runs that are asked for by lines of standard input; print the milliseconds of each."""
    import numpy as np

    from tunesmith_serving.artifact.opening import open_artifact
    from tunesmith_serving.engines.text_generation.batching.decoder import OnnxDecoder

    has_int8 = (artifact / "onnx" / "int8").exists()
    batch = open_artifact(artifact, "int8") if has_int8 else None
    decoder = OnnxDecoder(open_artifact(artifact, "int4"), SLOTS, CONTEXT, CHUNK, 0, batch=batch)
    draw = np.random.default_rng(0)
    tokens = draw.integers(300, decoder.spec.vocab_size, CHUNK)
    for row in range(SLOTS):  # keys and values that were never written would all be one page of zeros
        held = decoder.rows.tokens(row, 0, MOST)
        size = 1 if held.dtype == np.float32 else 30
        held[:] = size * draw.standard_normal(held.shape[1:], np.float32)
    print("ready", flush=True)
    for line in sys.stdin:
        rows, new, past, times = map(int, line.split())
        for index in range(times + 1):
            if index == 1:
                started = time.perf_counter()
            if new > 1:
                decoder.prefill(0, tokens[:new], past)
            else:
                decoder.decode([300] * rows, [past] * rows, [None] * rows)
        print(1000 * (time.perf_counter() - started) / times, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model and one turn")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return
    with tempfile.TemporaryDirectory() as scratch:
        artifact = Path(scratch) / "artifact"
        sizes = {"vocab_size": 1024, "context_length": CONTEXT} if options.quick else SMOLLM2_135M
        make_exports(artifact, sizes, exported_here(("int4", "int8")))
        in_int8 = shutil.copytree(artifact, artifact.with_name("int8"))
        keep_in_int8(in_int8, sizes["vocab_size"])
        contestants = [("1", artifact), ("0", artifact), ("1", in_int8)]
        compare(contestants, 1 if options.quick else options.rounds)


@contextmanager
def workers(contestants: list[tuple[str, Path]]) -> Iterator[list["subprocess.Popen[str]"]]:
    """Processes that compute runs: the switch of attention and the artifact of each."""
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--worker", str(artifact)],
            env={**os.environ, SWITCH: switch},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for switch, artifact in contestants
    ]
    for worker in started:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n", "a worker did not start"
    yield started
    for worker in started:
        assert worker.stdin is not None
        worker.stdin.close()
        worker.wait()


def compare(contestants: list[tuple[str, Path]], rounds: int) -> None:
    found: dict[tuple[int, ...], list[list[float]]] = {run: [] for run in RUNS}
    with workers(contestants) as started:
        for _ in range(rounds):
            for run in RUNS:
                found[run].append([ask(worker, run) for worker in started])
    print("| rows | new tokens | tokens before | at once | in blocks | ratio | in int8 | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for (rows, new, past, _), times in found.items():
        first, *others = (statistics.median(column) for column in zip(*times, strict=True))
        ratios = [statistics.median(each[n] / each[0] for each in times) for n in range(1, len(times[0]))]
        rest = " | ".join(f"{other:.1f} ms | {ratio:.2f}" for other, ratio in zip(others, ratios, strict=True))
        print(f"| {rows} | {new} | {past} | {first:.1f} ms | {rest} |")


def ask(worker: "subprocess.Popen[str]", run: tuple[int, ...]) -> float:
    """Return the milliseconds that a worker takes."""
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(" ".join(map(str, run)) + "\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


if __name__ == "__main__":
    main()
