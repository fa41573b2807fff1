"""Measures what an adapter and its base take beside a merged export, and how long a step of each takes.

Random weights of SmolLM2-135M's shape. The steps alternate, so that their ratios hold on a machine that is busy:

.venv/bin/python tests/bench/adapter_sizes.py --rank 16 --rows 1 8
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "layers": 30,
    "heads": 9,
    "kv_heads": 3,
    "tie_word_embeddings": True,
}
PAST = 128
"""Tokens that each row has before the step."""

Feeds = dict[str, Any]


def size_of(folder: Path) -> int:
    """Return the bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def session_of(folder: Path, threads: int) -> Any:
    """Return the session of an export."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])


def step_of(session: Any, rows: int) -> Feeds:
    """Return the inputs of a step of one token for each row."""
    feeds: Feeds = {
        "input_ids": np.full((rows, 1), 7, np.int64),
        "attention_mask": np.ones((rows, PAST + 1), np.int64),
    }
    for value in session.get_inputs():
        if value.name.startswith("past_key_values."):
            feeds[value.name] = np.zeros((rows, value.shape[1], PAST, 64), np.float32)
    return feeds


def compare(sessions: dict[str, tuple[Any, Feeds]], rounds: int) -> dict[str, float]:
    """Return the median seconds of a step of each, computed in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for index in range(rounds + 2):
        for name, (session, feeds) in sessions.items():
            start = time.perf_counter()
            session.run(["logits"], feeds)
            if index >= 2:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--precision", default="int4")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    from support.lora_artifacts import hf_model, make_adapter, make_base
    from support.tiny_models import build_model
    from tunesmith_api.artifact import onnx_folder
    from tunesmith_api.spec import Precision
    from tunesmith_trainer.export.exporter import Exporter
    from tunesmith_trainer.export.lora.inputs import lora_inputs

    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as name, Exporter(Path(name) / "log") as exporter:
        base, merged = Path(name) / "base", Path(name) / "merged"
        build_model(hf_model(base), **SHAPE)
        exporter.export(hf_model(base), merged, Precision(options.precision))
        make_base(base, precisions=(options.precision,), exporter=exporter)
        adapter = make_adapter(Path(name) / "adapter", base, rank=options.rank)
        for what, folder in (("merged export", merged), ("base", base), ("adapter", adapter)):
            print(f"{what:14} {size_of(folder) / 1e6:8.1f} MB")
        exported = base / onnx_folder(options.precision)
        one = lora_inputs(adapter / "adapter", exported)
        plain, taking = session_of(merged, options.threads), session_of(exported, options.threads)
        for rows in options.rows:
            step = step_of(plain, rows)
            several = {name: np.repeat(values, rows, 0) for name, values in one.items()}
            found = compare(
                {
                    "merged": (plain, step),
                    "base alone": (taking, step),
                    "one adapter": (taking, step | one),
                    "an adapter a row": (taking, step | several),
                },
                options.rounds,
            )
            for what, seconds in found.items():
                print(f"{rows} rows, {what:16} {seconds * 1e3:8.1f} ms, {found['merged'] / seconds:.2f} of merged")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
