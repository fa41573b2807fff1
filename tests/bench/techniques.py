"""Every technique: what it costs, how well it learns, and that each method goes with each strategy.

Two parts. The matrix trains each method with each strategy and offload on a tiny model, with two processes, and checks
that it ends as plain torch does, moves every part, and resumes (see support/technique_checks.py). The measurement
adapts a small trained model to another task with each technique. What was found is kept in tests/data/techniques.json,
and docs/techniques.md and docs/techniques.svg are written from it. A result is found anew when the code or the pinned
libraries have changed, so that the run can be broken off and goes on.

    python tests/bench/techniques.py                     # under an hour on 2 idle cores
    python tests/bench/techniques.py --matrix --only qlora   # the cells whose name matches
    python tests/bench/techniques.py --measure --only 'zero3$'
    python tests/bench/techniques.py --quick             # few steps and cells: shows that it runs; writes nothing
    python tests/bench/techniques.py --page              # the page again, from the numbers that there are
"""

import argparse
import os
import platform
import re
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "hack")]

from support.kept_results import KeptResults, code_digest  # noqa: E402
from support.technique_cells import Cell, cells  # noqa: E402
from support.technique_checks import CHECKS, Checker  # noqa: E402
from support.technique_measure import Measurer, middle, techniques  # noqa: E402
from support.technique_page import page, picture  # noqa: E402
from support.technique_runs import RunError, Runs  # noqa: E402

RESULTS = ROOT / "tests" / "data" / "techniques.json"
DOCUMENT = ROOT / "docs" / "techniques.md"
STEPS, BASE_EPOCHS, ROUNDS = 100, 12, 2


def kept_results(*, again: bool, write: bool) -> KeptResults:
    """Return the results that there are; they depend on the trainer, the API and these tests' own code."""
    texts = ("technique_page.py", "technique_claims.py")
    files = [path for path in (ROOT / "tests" / "support").glob("technique_*.py") if path.name not in texts]
    order = {"measured": [c.name for c in techniques()], "matrix": [c.key() for c in cells()]}
    return KeptResults(RESULTS, code_digest(("api", "trainer"), files), order, again=again, write=write)


def run_matrix(results: KeptResults, folder: Path, runs: Runs, chosen: list[Cell], checks: tuple[str, ...]) -> int:
    """Check cells, one after the other, and return how many fail."""
    checker, failed = Checker(folder, runs), 0
    for number, cell in enumerate(chosen, start=1):
        if not results.current("matrix", cell.key(), "result"):
            results.keep("matrix", cell.key(), "result", checker.check(cell, checks))
        found: dict[str, Any] = results.values["matrix"][cell.key()]["result"]
        wrong = {n: c["detail"] for n, c in found.get("checks", {}).items() if not c["passed"]}
        failed += bool(wrong)
        text = (
            f"refused: {found['refused']}" if "refused" in found else f"{wrong or 'holds'} ({found['seconds']:.0f} s)"
        )
        print(f"{number}/{len(chosen)} {cell.name}: {text}", flush=True)
    return failed


def run_measurement(results: KeptResults, measurer: Measurer, chosen: list[Cell], rounds: int) -> int:
    """Measure techniques and return how many fail. The speeds are measured in rounds, each technique in turn."""
    failed: set[str] = set()
    speeds: dict[str, list[float]] = {cell.name: [] for cell in chosen}
    # Speeds are comparable only within one run: they are measured anew together, or not at all.
    slow = [c for c in chosen if not all(results.current("measured", o.name, "tokensPerSecond") for o in chosen)]
    todo = [(cell, what) for what in ("memory", "learned") for cell in chosen]
    todo = [(c, what) for c, what in todo if not results.current("measured", c.name, what)]
    if slow or any(what == "learned" for _, what in todo):
        started = time.monotonic()
        results.values["setup"]["base"] = measurer.base()
        print(f"base model: {time.monotonic() - started:.0f} s", flush=True)
    # First, while nothing else runs: only they depend on it.
    todo = [(cell, "speed") for _ in range(rounds) for cell in slow] + todo
    for number, (cell, what) in enumerate(todo, start=1):
        started = time.monotonic()
        try:
            if what == "speed":
                found: Any = measurer.speed(cell)
                speeds[cell.name].append(found)
                results.keep("measured", cell.name, "tokensPerSecond", middle(speeds[cell.name]))
            else:
                found = measurer.memory(cell) if what == "memory" else measurer.learn(cell)
                results.keep("measured", cell.name, what, found)
        except RunError as error:
            found = f"FAILED: {error}"
            failed.add(cell.name)
        print(f"{number}/{len(todo)} {cell.name} {what}: {found} ({time.monotonic() - started:.0f} s)", flush=True)
    return len(failed)


def main() -> None:
    """Run what is asked for, print it, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matrix", action="store_true", help="only the matrix")
    parser.add_argument("--measure", action="store_true", help="only the measurement")
    parser.add_argument("--only", nargs="+", default=[""], metavar="PATTERN", help="what matches one of these")
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS), help="some of the matrix's checks")
    parser.add_argument("--again", action="store_true", help="find anew what has a current result")
    parser.add_argument("--quick", action="store_true", help="few steps, some cells; writes nothing")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--work", type=Path, help="where temporary files are written")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    partial = options.quick or set(options.checks) != set(CHECKS)
    results = kept_results(again=options.again or partial, write=not partial)
    both, failed = options.matrix == options.measure, 0
    matrix = [cell for cell in cells() if any(re.search(text, cell.name) for text in options.only)]
    measured = [cell for cell in techniques() if any(re.search(text, cell.name) for text in options.only)]
    if options.quick:
        matrix, measured = matrix[:: max(1, len(matrix) // 8)], measured[:: max(1, len(measured) // 4)]
    if not options.page:
        with tempfile.TemporaryDirectory(dir=options.work) as name, Runs(Path(name) / "log") as runs:
            folder = Path(name)
            if both or options.matrix:
                failed += run_matrix(results, folder, runs, matrix, tuple(options.checks))
            if both or options.measure:
                steps, epochs, rounds = (10, 0.5, 1) if options.quick else (STEPS, BASE_EPOCHS, ROUNDS)
                machine = f"{os.cpu_count()} cores ({platform.machine()})"
                results.values["setup"] |= {"steps": steps, "rounds": rounds, "machine": machine}
                measurer = Measurer(folder, runs, steps=steps, base_epochs=epochs)
                failed += run_measurement(results, measurer, measured, rounds)
        results.values["setup"]["when"] = datetime.now(UTC).strftime("%-d %B %Y")
        results.save()
    text = page(results.values)
    if partial:
        print(text)
    else:
        DOCUMENT.write_text(text)
        DOCUMENT.with_suffix(".svg").write_text(picture(results.values["measured"]))
    if failed:
        sys.exit(f"{failed} fail")


if __name__ == "__main__":
    main()
