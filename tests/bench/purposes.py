"""Every purpose with every technique: each cell learns, is exported, compared, served and asked over HTTP.

What was found is kept in tests/data/purposes.json, and docs/purposes.md is written from it. A result is found anew when
the code or the pinned libraries have changed, so that the run can be broken off and goes on.

    python tests/bench/purposes.py                     # under an hour on 2 idle cores
    python tests/bench/purposes.py --only '^entities'  # the cells whose name matches
    python tests/bench/purposes.py --page              # the page again, from the numbers that there are
"""

import argparse
import os
import platform
import re
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "hack")]

from support.example_rows import PURPOSES as EXAMPLES  # noqa: E402
from support.kept_results import KeptResults, code_digest  # noqa: E402
from support.purpose_cells import cells  # noqa: E402
from support.purpose_checks import PurposeRunner  # noqa: E402
from support.purpose_page import page  # noqa: E402
from support.technique_runs import Runs  # noqa: E402

RESULTS = ROOT / "tests" / "data" / "purposes.json"
DOCUMENT = ROOT / "docs" / "purposes.md"


def kept_results(*, again: bool) -> KeptResults:
    """Return the results that there are; they depend on all three stages, the server, the data and the cells."""
    support = ROOT / "tests" / "support"
    files = [path for path in support.glob("purpose_*.py") if path.name != "purpose_page.py"]
    files += [support / "technique_child.py", support / "technique_runs.py", support / "serving_process.py"]
    files += [ROOT / "examples" / example / "make_data.py" for example in EXAMPLES]
    code = code_digest(("api", "trainer", "serving"), files)
    return KeptResults(RESULTS, code, {"cells": [cell.name for cell in cells()]}, again=again)


def main() -> None:
    """Run what is asked for, print it, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="PATTERN", help="what matches one of these")
    parser.add_argument("--again", action="store_true", help="find anew what has a current result")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--work", type=Path, help="where temporary files are written")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    results, failed = kept_results(again=options.again), 0
    chosen = [cell for cell in cells() if any(re.search(pattern, cell.name) for pattern in options.only)]
    if not options.page:
        with tempfile.TemporaryDirectory(dir=options.work) as name, Runs(Path(name) / "log") as runs:
            runner = PurposeRunner(Path(name), runs)
            for number, cell in enumerate(chosen, start=1):
                if not results.current("cells", cell.name, "result"):
                    results.keep("cells", cell.name, "result", runner.run(cell))
                found = results.values["cells"][cell.name]["result"]
                failed += bool(found.get("failures"))
                print(f"{number}/{len(chosen)} {cell.name}: {found}", flush=True)
        machine = f"{os.cpu_count()} cores ({platform.machine()})"
        results.values["setup"] = {"machine": machine, "when": datetime.now(UTC).strftime("%-d %B %Y")}
        results.save()
    DOCUMENT.write_text(page(results.values))
    if failed:
        sys.exit(f"{failed} fail")


if __name__ == "__main__":
    main()
