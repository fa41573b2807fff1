"""What the planner predicts against what training takes, over a grid of methods, strategies, lengths and checkpointing.

Each point is trained for two steps by the product's own code, in processes of its own, on the CPU by gloo or, with
`--gpu`, on the GPU that there is. Two measures: all tensors at the peak, followed one by one (on a GPU:
`torch.cuda.max_memory_allocated`), and the resident memory of the process. What was measured is kept in
tests/data/plan_measured.jsonl, so that a change of the formulas needs no new measurement: a unit test compares them.

    python tests/bench/plan.py                  # measures what is not in the file; writes the table to docs/planning.md
    python tests/bench/plan.py --again          # measures all anew, 25 minutes on 2 cores
    python tests/bench/plan.py --only zero2     # the points whose name has this
    python tests/bench/plan.py --from FILE      # points that were measured before are taken from the file
    python tests/bench/plan.py --gpu            # about 20 points on one GPU, 4 minutes; prints the table
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.plan_points import Measured, Point, Trainers, resident  # noqa: E402
from tunesmith_api.resolve import Offload, Strategy  # noqa: E402

MEASURED = ROOT / "tests" / "data" / "plan_measured.jsonl"
DOCUMENT = ROOT / "docs" / "planning.md"
_OFFLOADS: tuple[tuple[Strategy, Offload], ...] = (
    ("zero1", "optimizer"),
    ("zero2", "optimizer"),
    ("zero3", "optimizer"),
    ("zero3", "all"),
)
BEGIN, END = "<!-- measured: tests/bench/plan.py -->", "<!-- end -->"


def grid() -> Iterator[Point]:
    """The points on the CPU."""
    for length, checkpointing in ((256, False), (64, True), (64, False), (256, True)):
        for strategy in ("ddp", "zero1", "zero2", "zero3"):
            for method in ("full", "lora", "dora"):
                yield Point(
                    method=method,
                    strategy=strategy,
                    processes=2,
                    length=length,
                    micro_batch_size=1,
                    checkpointing=checkpointing,
                )
    one = Point(length=128, micro_batch_size=2)
    yield one
    yield replace(one, accumulation=2)
    yield replace(one, learned=0.25)
    for method in ("full", "lora", "dora"):
        yield replace(one, method=method, precision="bf16")
    yield replace(one, method="lora", dropout=0.1)
    for method in ("qlora", "qdora"):
        for strategy in ("ddp", "zero1", "zero2", "zero3"):
            spread = Point(method=method, strategy=strategy, processes=2, micro_batch_size=1)
            yield replace(spread, length=256)
            if method == "qlora":
                yield replace(spread, length=64, checkpointing=True)
        for precision in ("fp32", "bf16"):
            yield replace(one, method=method, precision=precision)
    for strategy, offload in _OFFLOADS:
        for method in ("full", "lora"):
            yield Point(method=method, strategy=strategy, offload=offload, processes=2, length=256, micro_batch_size=1)
    yield Point(method="qlora", strategy="zero3", offload="all", processes=2, length=256, micro_batch_size=1)
    yield replace(one, method="full", strategy="zero2", offload="optimizer", accumulation=2)
    yield replace(one, method="full", strategy="zero3", offload="all")
    for method in ("ia3", "vera", "oft", "loha"):
        yield replace(one, method=method, checkpointing=method in ("ia3", "oft"))
        yield replace(one, method=method, precision="bf16")
    for method in ("full", "lora"):
        yield replace(one, method=method, packing=True, accumulation=2)
        yield Point(model="llama-wide", method=method, length=600, micro_batch_size=2, checkpointing=True)
    for model in ("phi3-66m", "qwen2-66m", "qwen3-66m", "gemma-66m"):
        yield replace(one, model=model)
        yield replace(one, model=model, method="lora")


def gpu_grid() -> Iterator[Point]:
    """The points on one GPU."""
    base = Point(model="llama-1b", precision="bf16", gpu=True)
    for method in ("full", "lora", "dora"):
        for length, rows in ((512, 4), (2048, 2)):
            for checkpointing in (False, True):
                yield replace(base, method=method, length=length, micro_batch_size=rows, checkpointing=checkpointing)
    for strategy in ("zero1", "zero2", "zero3"):
        for method in ("full", "lora"):
            yield replace(base, method=method, strategy=strategy, length=1024)
    yield replace(base, accumulation=2, length=512)
    yield replace(base, method="lora", dropout=0.1, length=512)


def name(point: Point) -> str:
    """Return a point in words."""
    extra = [point.model, point.method, point.strategy if point.processes > 1 or point.strategy != "ddp" else "plain"]
    extra.append(f"{point.micro_batch_size} × {point.length}")
    extra += ["checkpointing"] if point.checkpointing else []
    extra += ["bf16"] if point.precision == "bf16" else []
    extra += [f"accumulation {point.accumulation}"] if point.accumulation > 1 else []
    extra += [f"dropout {point.dropout:g}"] if point.dropout else []
    extra += [f"{point.learned:.0%} learned"] if point.learned < 1 else []
    extra += [f"offload {point.offload}"] if point.offload != "none" else []
    extra += ["packing"] if point.packing else []
    return ", ".join(extra)


def key(point: Point) -> str:
    """Return what a measured point is found by."""
    return json.dumps(asdict(point), sort_keys=True)


def row(point: Point, measured: Measured) -> tuple[float, float, str]:
    """Return the two errors of a point, and its row of the table."""
    memory = point.predicted()
    allocated = memory.allocated / measured.allocated - 1
    process = resident(point)
    whole = process / measured.resident - 1
    cells = [name(point), memory.phase.name]
    cells += [f"{memory.allocated / 1e6:,.0f}", f"{measured.allocated / 1e6:,.0f}", f"{allocated:+.1%}"]
    if not point.gpu:
        cells += [f"{process / 1e6:,.0f}", f"{measured.resident / 1e6:,.0f}", f"{whole:+.1%}"]
    return allocated, whole, f"| {' | '.join(cells)} |"


def table(results: list[tuple[Point, Measured]]) -> str:
    """Return the table and its summary, as Markdown."""
    gpu = results[0][0].gpu
    head = ["way to train", "peak in", "tensors, planned", "measured, MB", "error"]
    head += [] if gpu else ["process, planned", "measured, MB", "error"]
    rows = [row(point, measured) for point, measured in results]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(text for _, _, text in rows)]
    summary = [f"{len(rows)} points. Tensors: {_errors([error for error, _, _ in rows])}."]
    if not gpu:
        summary.append(f"Process: {_errors([error for _, error, _ in rows])}.")
        under = sum(
            measured.resident > resident(point, reserve=True) or measured.allocated > point.predicted().total
            for point, measured in results
        )
        summary.append(f"With the reserve, {under} of {len(rows)} are under what was measured.")
    return "\n".join([" ".join(summary), "", *lines])


def _errors(errors: list[float]) -> str:
    sizes = [abs(error) for error in errors]
    return f"median error {statistics.median(sizes):.1%}, worst {max(sizes):.1%}"


def main() -> None:
    """Measure and print; with the whole grid on the CPU, write the table to the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--from", dest="file", type=Path, default=MEASURED)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--again", action="store_true", help="measure all points anew")
    options = parser.parse_args()
    if options.gpu:
        import torch

        if not torch.cuda.is_available():
            sys.exit("There is no GPU here.")
    known: dict[str, Measured] = {}
    if options.file.exists() and not options.again:
        for line in options.file.read_text().splitlines():
            entry = json.loads(line)
            known[key(Point(**entry["point"]))] = Measured(**entry["measured"])
    points = [point for point in (gpu_grid() if options.gpu else grid()) if options.only in name(point)]
    results = []
    with tempfile.TemporaryDirectory() as folder, Trainers(Path(folder)) as trainers:
        for point in points:
            if key(point) not in known:
                known[key(point)] = trainers.measure(point)
                with options.file.open("a") as file:
                    file.write(json.dumps({"point": asdict(point), "measured": asdict(known[key(point)])}) + "\n")
            results.append((point, known[key(point)]))
            print(row(*results[-1])[2], flush=True)
    text = table(results)
    print(text.splitlines()[0])
    if not options.only and not options.gpu and DOCUMENT.exists():
        document = DOCUMENT.read_text()
        before, _, rest = document.partition(BEGIN)
        _, _, after = rest.partition(END)
        DOCUMENT.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    main()
