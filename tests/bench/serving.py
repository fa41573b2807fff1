"""Tokens per second of the server, through HTTP, against transformers and onnxruntime-genai.

One random-weight Llama of SmolLM2-135M's shape, 64 prompt and 128 new tokens, greedy. Everything is measured in one
run, one after the other, in rounds; the table gives medians, so that a machine with other work distorts less. The
server has the export of the publish stage, onnxruntime-genai that of its own model builder.

    python tests/bench/serving.py            # about 10 minutes on 2 cores
    python tests/bench/serving.py --quick    # a tiny model: shows that everything runs
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

from support.precisions import exported_here
from support.tiny_models import build_model, export_onnx, write_manifest
from tunesmith_api.spec import Precision
from tunesmith_trainer.export.exporter import Exporter
from tunesmith_trainer.export.int8_cache import measure_ranges, quantise_cache

SMOLLM2_135M = {
    "vocab_size": 32_768,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "layers": 30,
    "heads": 9,
    "kv_heads": 3,
    "context_length": 2048,
    "initializer_range": 0.05,
}
CLIENTS = (1, 8, 32)


@dataclass
class Sample:
    """One measurement: generated tokens per second, and seconds to first tokens where clients saw them."""

    tokens_per_second: float
    first_token: float | None = None


def invented_words(count: int) -> list[str]:
    """Text in which a tokenizer finds as many tokens as a real one has, so that answers are real text to decode."""
    draw = random.Random(3)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(3, 9))) for _ in range(count)]
    return [" ".join(words[start : start + 100]) for start in range(0, count, 100)]


def make_models(folder: Path, sizes: dict[str, Any], block_size: int | None = None) -> None:
    """The model at `folder`.hf, an artifact of it at `folder`, and the builder's own exports at `folder`.genai."""
    model = make_exports(folder, sizes, exported_here(("fp32", "int4", "int8")), block_size)
    for precision in (Precision.FP32, Precision.INT4):
        export_onnx(model, folder.with_name(folder.name + ".genai"), precision.value)


def make_exports(
    folder: Path, sizes: dict[str, Any], precisions: Iterable[Precision], block_size: int | None = None
) -> Path:
    """Make an artifact at `folder` of a model at `folder`.hf, which is returned."""
    model = build_model(folder.with_name(folder.name + ".hf"), "llama", **sizes)
    with Exporter(folder.with_name(folder.name + ".log"), block_size) as exporter:
        for precision in precisions:
            exporter.export(model, folder / "onnx" / precision.value, precision)
    write_manifest(folder)
    return model


def keep_in_int8(artifact: Path, vocab_size: int) -> None:
    """Let the exports of an artifact, int4 among them, keep keys and values in int8."""
    ranges = measure_ranges(artifact / "onnx" / "int4", prompt_ids(16, 448, vocab_size))
    both = (artifact / "onnx" / "int8").exists()
    for name in ("int4", "int8") if both else ("int4",):
        assert quantise_cache(artifact / "onnx" / name, ranges, prompts=name == "int8" or not both)
    write_manifest(artifact)


def prompt_ids(count: int, length: int, vocab_size: int) -> list[list[int]]:
    """Deterministic prompts, all different."""
    import numpy as np

    return np.random.default_rng(7).integers(300, vocab_size, (count, length)).tolist()


async def stream_one(url: str, prompt: list[int], new_tokens: int, model: str = "bench") -> tuple[int, float]:
    """Stream one completion over a connection of its own; returns (tokens, seconds to the first)."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    body = json.dumps(
        {
            "model": model,
            "prompt": prompt,
            "max_tokens": new_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {where.netloc}\r\nConnection: close\r\nContent-Length: {len(body)}"
    started = time.perf_counter()
    writer.write(head.encode() + b"\r\n\r\n" + body)
    first = tokens = None
    while line := await reader.readline():
        if first is None and line.startswith(b"data: "):
            first = time.perf_counter() - started
        if b'"usage"' in line:
            tokens = json.loads(line[6:])["usage"]["completion_tokens"]
    writer.close()
    assert first is not None and tokens is not None, "the server did not answer to the end"
    return tokens, first


def through_http(
    url: str, prompts: list[list[int]], clients: int, new_tokens: int, models: Sequence[str] = ("bench",)
) -> Sample:
    """`clients` clients at once, each sending its share of the prompts to its model, one after the other."""

    async def client(mine: list[list[int]], model: str) -> list[tuple[int, float]]:
        return [await stream_one(url, prompt, new_tokens, model) for prompt in mine]

    async def run() -> list[list[tuple[int, float]]]:
        shares = (client(prompts[index::clients], models[index % len(models)]) for index in range(clients))
        return await asyncio.gather(*shares)

    started = time.perf_counter()
    answers = [answer for answers in asyncio.run(run()) for answer in answers]
    seconds = time.perf_counter() - started
    return Sample(sum(tokens for tokens, _ in answers) / seconds, statistics.median(first for _, first in answers))


def with_genai(model: Any, prompts: list[list[int]], batch: int, new_tokens: int) -> Sample:
    """onnxruntime-genai's generator loop: one after the other, or `batch` at a time from start to end."""
    import numpy as np
    import onnxruntime_genai as og

    started = time.perf_counter()
    tokens = 0
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        params = og.GeneratorParams(model)
        length = len(part[0]) + new_tokens
        params.set_search_options(max_length=length, min_length=length, do_sample=False, batch_size=len(part))
        generator = og.Generator(model, params)
        generator.append_tokens(np.asarray(part, np.int32))
        while not generator.is_done():
            generator.generate_next_token()
        tokens += sum(len(generator.get_sequence(row)) - len(part[0]) for row in range(len(part)))
    return Sample(tokens / (time.perf_counter() - started))


def with_transformers(model: Any, prompts: list[list[int]], batch: int, new_tokens: int) -> Sample:
    """transformers.generate in fp32, `batch` at a time."""
    import torch

    started = time.perf_counter()
    tokens = 0
    with torch.inference_mode():
        for start in range(0, len(prompts), batch):
            part = torch.tensor(prompts[start : start + batch])
            output = model.generate(
                part,
                attention_mask=torch.ones_like(part),
                max_new_tokens=new_tokens,
                min_new_tokens=new_tokens,
                do_sample=False,
            )
            tokens += output[:, part.shape[1] :].numel()
    return Sample(tokens / (time.perf_counter() - started))


def start_server(
    artifact: Path, precision: str, slots: int, threads: int, context_length: int = 512, batch: str | None = None
) -> tuple[subprocess.Popen[str], str]:
    """The server as a child process, ready; returns it and its URL. `batch` is its batchPrecision."""
    command = [sys.executable, "-m", "tunesmith_serving", "--artifact", str(artifact), "--precision", precision]
    command += ["--port", "0", "--model-name", "bench", "--slots", str(slots), "--max-queue", "64"]
    command += ["--context-length", str(context_length), "--threads", str(threads)]
    command += ["--batch-precision", batch] if batch else []
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line.startswith("ready "):
        raise SystemExit("the server did not start")
    return server, line.split()[1]


def measure(options: argparse.Namespace, artifact: Path, precision: str) -> dict[str, list[Sample]]:
    """All contestants in rounds; returns the samples of each."""
    import onnxruntime_genai as og
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(options.threads)
    genai = og.Model(str(artifact.with_name(artifact.name + ".genai") / "onnx" / precision))
    hf = AutoModelForCausalLM.from_pretrained(str(artifact.with_name(artifact.name + ".hf")), dtype=torch.float32)
    vocab, new = hf.config.vocab_size, options.new_tokens
    prompts = prompt_ids(64, options.prompt_tokens, vocab)
    server, url = start_server(artifact, precision, max(CLIENTS), options.threads)

    def http(clients: int) -> Callable[[], Sample]:
        count = max(options.requests, clients)
        return lambda: through_http(url, prompts[:count], clients, new)

    few = prompts[: options.requests]
    contestants: dict[str, Callable[[], Sample]] = {
        "og generator loop, 1": lambda: with_genai(genai, few, 1, new),
        "served, 1 client": http(1),
        "og static batch, 8": lambda: with_genai(genai, prompts[:8], 8, new),
        "served, 8 clients": http(8),
        "served, 32 clients": http(32),
        "transformers fp32, 1": lambda: with_transformers(hf, few[:1], 1, new),
        "transformers fp32, 8": lambda: with_transformers(hf, prompts[:8], 8, new),
    }
    samples: dict[str, list[Sample]] = {name: [] for name in contestants}
    try:
        for clients in CLIENTS:
            http(clients)()  # the first run of each number of rows binds buffers and touches memory
        for _ in range(options.rounds):
            for name, contestant in contestants.items():
                samples[name].append(contestant())
    finally:
        server.terminate()
        server.wait(60)
    return samples


def report(precision: str, samples: dict[str, list[Sample]]) -> str:
    """The table as markdown."""
    speed = {name: statistics.median(s.tokens_per_second for s in all_) for name, all_ in samples.items()}
    against = {
        "served, 1 client": ("og generator loop, 1", "transformers fp32, 1"),
        "served, 8 clients": ("og static batch, 8", "transformers fp32, 8"),
        "served, 32 clients": ("og static batch, 8", "transformers fp32, 8"),
    }
    lines = [
        f"| {precision} | tokens/s (min to max) | first token | over onnxruntime-genai | over transformers |",
        "|---|---|---|---|---|",
    ]
    for name, all_ in samples.items():
        values = [s.tokens_per_second for s in all_]
        firsts = [s.first_token for s in all_ if s.first_token is not None]
        first = f"{statistics.median(firsts) * 1000:.0f} ms" if firsts else ""
        ratios = [f"{speed[name] / speed[other]:.2f}" for other in against.get(name, ())] or ["", ""]
        lines.append(
            f"| {name} | {speed[name]:.0f} ({min(values):.0f} to {max(values):.0f}) | {first} | {' | '.join(ratios)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Build the model, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny model, one round")
    parser.add_argument("--precision", nargs="+", default=["int4"], choices=["int4", "fp32"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2, help="requests of a measurement, at least one a client")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--work", type=Path, help="folder in which the model is kept for the next run")
    options = parser.parse_args()
    sizes: dict[str, Any] = {"vocab_size": 1024, "context_length": 512} if options.quick else SMOLLM2_135M
    sizes["texts"] = invented_words(sizes["vocab_size"])
    if options.quick:
        options.rounds, options.new_tokens = 1, 16
    with tempfile.TemporaryDirectory() as scratch:
        artifact = (options.work or Path(scratch)) / ("quick" if options.quick else "smollm2-135m-random")
        if not (artifact / "manifest.json").exists():
            make_models(artifact, sizes)
        for precision in options.precision:
            print(report(precision, measure(options, artifact, precision)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
