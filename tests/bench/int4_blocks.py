"""Blocks of 32, 64 and 128 int4 weights that share a scale: bytes, time of a step, and error of the rounding.

Steps of one row of a random-weight Llama of SmolLM2-135M's shape, computed by a process of each kind in turns; ratios
are to blocks of 32, made within each turn, and the table gives medians. The error is that of the matrices of
all-MiniLM-L6-v2, which are trained ones, by the same kernel: its root mean square in shares of that of the weights.

    python tests/bench/int4_blocks.py            # 1 minute on 2 cores
    python tests/bench/int4_blocks.py --quick    # a tiny model, one turn: shows that everything runs
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors import safe_open

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

from bench.attention import CONTEXT, ask, workers
from bench.serving import SMOLLM2_135M, make_exports
from support.minilm import minilm
from tunesmith_api.spec import Precision

SIZES = (32, 64, 128)
STEP = (1, 1, 64, 50)


def rounding_error(size: int) -> float:
    """The error of blocks of this size, of all layers' matrices."""
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, DefaultWeightOnlyQuantizer

    quantizer = DefaultWeightOnlyQuantizer(DefaultWeightOnlyQuantConfig(block_size=size, is_symmetric=True, bits=4))
    errors = squares = 0.0
    with safe_open(minilm() / "model.safetensors", framework="numpy") as weights:
        for name in weights.keys():
            if "encoder.layer" not in name or len(weights.get_slice(name).get_shape()) != 2:
                continue
            matrix = np.ascontiguousarray(weights.get_tensor(name).T.astype(np.float32))
            packed, scales, _ = quantizer.qbits_block_quant(matrix)
            levels = np.stack([packed & 15, packed >> 4], axis=-1).reshape(matrix.shape[1], -1, size).astype(np.float32)
            rounded = (levels - 8) * scales.reshape(matrix.shape[1], -1, 1)
            rounded = rounded.reshape(matrix.shape[1], -1)[:, : len(matrix)].T
            errors += float(((rounded - matrix) ** 2).sum())
            squares += float((matrix**2).sum())
    return (errors / squares) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model and one turn")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each")
    options = parser.parse_args()
    sizes = {"vocab_size": 1024, "context_length": CONTEXT} if options.quick else SMOLLM2_135M
    with tempfile.TemporaryDirectory() as scratch:
        artifacts = [Path(scratch) / f"blocks-{size}" for size in SIZES]
        for size, artifact in zip(SIZES, artifacts, strict=True):
            make_exports(artifact, sizes, (Precision.INT4,), size)
        with workers([("1", artifact) for artifact in artifacts]) as started:
            rounds = 1 if options.quick else options.rounds
            times = [[ask(worker, STEP) for worker in started] for _ in range(rounds)]
    print("| weights of a block | bytes of a weight | step of one row | ratio | rounding error |")
    print("|---|---|---|---|---|")
    for index, size in enumerate(SIZES):
        time = statistics.median(each[index] for each in times)
        ratio = statistics.median(each[index] / each[0] for each in times)
        print(f"| {size} | {0.5 + 4 / size:.3f} | {time:.2f} ms | {ratio:.2f} | {100 * rounding_error(size):.1f}% |")


if __name__ == "__main__":
    main()
