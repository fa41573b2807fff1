"""Classification on real weights: MiniLM, fine-tuned by the product, beside a logistic regression on its embeddings.

python tests/bench/minilm.py       # 10 minutes on 2 idle cores
"""

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "hack")]

from support.minilm import KEPT_OUT, ROWS, SUBJECTS, fine_tune, logistic_regression, rows  # noqa: E402
from support.technique_runs import Runs  # noqa: E402

STEPS = 450
TOLERANCE = 1e-4


def main() -> None:
    """Compare and print; end with an error if the fine-tuned model is not at least as good, or its export differs."""
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    data = rows(ROWS, KEPT_OUT)
    simple = logistic_regression(*data)
    with tempfile.TemporaryDirectory() as name, Runs(Path(name) / "log") as runs:
        accuracy, difference = fine_tune(Path(name) / "job", runs, data, STEPS)
    print(f"{ROWS} texts in {len(SUBJECTS)} classes, {KEPT_OUT} kept out")
    print(f"accuracy: fine-tuned {accuracy:.3f}, logistic regression on the embeddings {simple:.3f}")
    print(f"largest difference of a logit, ONNX from torch: {difference:.1e}")
    if accuracy < simple or difference > TOLERANCE:
        sys.exit("the fine-tuned model must be as good, and its export the same")


if __name__ == "__main__":
    main()
