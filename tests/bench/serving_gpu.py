"""Tokens per second of a server that computes with CUDA, through HTTP, beside one on the CPU of the same machine.

Needs an NVIDIA GPU and onnxruntime-gpu in place of onnxruntime. Answers are compared first: fp16 on the GPU and fp32 on
the CPU.

    python tests/bench/serving_gpu.py
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from serving_openvino import LARGER, Served, ask, prompts, rate, serving

from support.tiny_models import build_model, write_manifest
from tunesmith_api.spec import Precision
from tunesmith_trainer.export.exporter import Exporter

ROUNDS, REQUESTS = 5, 32


def main() -> int:
    """Build the model, serve it by both and print the table."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        print("the installed ONNX Runtime has no CUDAExecutionProvider; install onnxruntime-gpu[cuda,cudnn]")
        return 2
    python = Path(sys.executable)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder, artifact = Path(temporary), Path(temporary) / "artifact"
        build_model(folder / "hf", context_length=512, initializer_range=0.05, **LARGER)
        (artifact / "onnx").mkdir(parents=True)
        with Exporter(folder / "log") as exporter:
            for precision in ("fp32", "fp16"):
                exporter.export(folder / "hf", artifact / "onnx" / precision, Precision(precision))
        write_manifest(artifact)
        cpu, gpu = (Served("llama", "textGeneration", artifact, precision) for precision in ("fp32", "fp16"))
        on_cpu = stack.enter_context(serving(cpu, "cpu", python, 0))
        on_gpu = stack.enter_context(serving(gpu, "cuda", python, 0))
        same = total = 0
        for prompt in prompts(8, seed=1):
            body = {"model": "model", "prompt": prompt, "max_tokens": 1, "temperature": 0}
            first, second = (ask(url, "/v1/completions", body)["choices"][0]["text"] for url in (on_cpu, on_gpu))
            same, total = same + (first == second), total + 1
        print(f"first tokens the same: {same} of {total}\n\n| clients | CPU, fp32 | CUDA, fp16 |\n|---|---|---|")
        for clients in (1, 8, 32):
            found = [
                [rate(model, url, clients, REQUESTS, seed) for seed in range(ROUNDS)]
                for model, url in ((cpu, on_cpu), (gpu, on_gpu))
            ]
            print(f"| {clients} | {' | '.join(f'{statistics.median(rates):,.0f} tokens/s' for rates in found)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
