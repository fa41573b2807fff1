"""Servers that compute with OpenVINO, through HTTP, beside ones that compute with ONNX Runtime's own kernels.

Each model is served by both at once, on the same number of threads; answers are compared, then both are measured in
turns, in rounds, and ratios are made within each round. OpenVINO's plug-in is installed in an environment of its own.

    python tests/bench/serving_openvino.py            # about 10 minutes on 2 cores
    python tests/bench/serving_openvino.py --quick    # tiny models: shows that everything runs
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.one_pass_artifacts import make_one_pass_artifact
from support.openvino_environment import openvino_python
from support.tiny_models import build_model, write_manifest
from support.tiny_translation import make_translator
from tunesmith_api.spec import Precision
from tunesmith_trainer.export.exporter import Exporter

# The quickstart's model (examples/quickstart), with random weights, and one of SmolLM2-135M's width.
QUICKSTART: dict[str, Any] = {
    "vocab_size": 2048, "hidden_size": 256, "intermediate_size": 768, "layers": 4, "heads": 4, "kv_heads": 2,
}  # fmt: skip
LARGER: dict[str, Any] = {
    "vocab_size": 8192, "hidden_size": 576, "intermediate_size": 1536, "layers": 12, "heads": 9, "kv_heads": 3,
}  # fmt: skip
PROVIDERS = ("cpu", "openvino")
# In fp32; int4 and int8 are computed by kernels that round activations differently, which random weights magnify: there
# the shares of `export.parity` hold.
EXACT, AGREEMENT = 1e-3, 0.9


@dataclass(frozen=True)
class Served:
    """A model that both providers serve."""

    name: str
    task: str
    artifact: Path
    precision: str


def ask(url: str, path: str, body: dict[str, Any]) -> Any:
    """Post JSON and return the answer."""
    request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)


@contextmanager
def serving(model: Served, provider: str, python: Path, threads: int) -> Iterator[str]:
    """A server with one provider; yields its URL."""
    command = [str(python), "-m", "tunesmith_serving", "--artifact", str(model.artifact), "--port", "0"]
    command += ["--precision", model.precision, "--threads", str(threads), "--execution-provider", provider]
    command += ["--context-length", "512"] if model.task == "textGeneration" else []
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line.startswith("ready "):
            raise SystemExit(f"the server of {model.name} in {model.precision} with {provider} did not start")
        yield line.split()[1]
    finally:
        server.terminate()
        server.wait()


def text_models(folder: Path, quick: bool, larger: bool) -> Iterator[Served]:
    """The quickstart's kind of model, and a larger one where it is asked for, in fp32 and int4."""
    shapes = {"quickstart's shape": {"layers": 2} if quick else QUICKSTART}
    if larger:
        shapes["12 layers of 576"] = LARGER
    for index, (name, shape) in enumerate(shapes.items()):
        source, target = folder / f"text-{index}.hf", folder / f"text-{index}"
        build_model(source, context_length=512, initializer_range=0.05, **shape)
        with Exporter(folder / f"text-{index}.log") as exporter:
            for precision in ("fp32", "int4"):
                (target / "onnx").mkdir(parents=True, exist_ok=True)
                exporter.export(source, target / "onnx" / precision, Precision(precision))
        write_manifest(target)
        for precision in ("fp32", "int4"):
            yield Served(name, "textGeneration", target, precision)


def other_models(folder: Path, quick: bool) -> Iterator[Served]:
    """A classifier of MiniLM's shape, and a translation model."""
    shape = {} if quick else {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}
    task = "sequenceClassification"
    classifier = make_one_pass_artifact(folder / "classifier", task, precisions=("fp32", "int8"), **shape)
    for precision in ("fp32", "int8"):
        yield Served("encoder", task, classifier, precision)
    yield Served("encoder-decoder", "translation", make_translator(folder / "translator", "t5"), "fp32")


def prompts(count: int, seed: int) -> list[list[int]]:
    """Prompts of 64 token ids."""
    draw = random.Random(seed)
    return [[draw.randrange(3, 300) for _ in range(64)] for _ in range(count)]


def texts(count: int) -> list[str]:
    """Short texts."""
    words = Path(__file__).read_text().split()
    draw = random.Random(5)
    return [" ".join(draw.choices(words, k=draw.randint(5, 30))) for _ in range(count)]


def difference(model: Served, urls: dict[str, str]) -> tuple[str, bool]:
    """How much the answers differ, in words, and whether that is within the bound."""
    if model.task == "textGeneration":
        return _difference_of_text(model, urls)
    if model.task == "translation":
        found = {name: [ask(url, "/", {"inputs": text}) for text in texts(8)] for name, url in urls.items()}
        same = sum(a == b for a, b in zip(found["cpu"], found["openvino"], strict=True))
        return f"{same} of 8 translations the same", same == 8
    scores = {
        name: [_scores(ask(url, "/predict", {"inputs": text})) for text in texts(64)] for name, url in urls.items()
    }
    pairs = list(zip(scores["cpu"], scores["openvino"], strict=True))
    largest = max(abs(a[label] - b[label]) for a, b in pairs for label in a)
    same = sum(max(a, key=a.__getitem__) == max(b, key=b.__getitem__) for a, b in pairs)
    words = f"{same} of {len(pairs)} classes the same, scores within {largest:.1e}"
    is_near = largest <= EXACT if model.precision == "fp32" else same >= AGREEMENT * len(pairs)
    return words, is_near


def _difference_of_text(model: Served, urls: dict[str, str]) -> tuple[str, bool]:
    """Compare the next token, and its log probability, after the same tokens: prompts of all lengths up to 64."""
    largest, same, total = 0.0, 0, 0
    for number, prompt in enumerate(prompts(64, seed=1), start=1):
        body = {"model": "model", "prompt": prompt[:number], "max_tokens": 2, "temperature": 0, "logprobs": 1}
        first, second = (ask(urls[name], "/v1/completions", body)["choices"][0]["logprobs"] for name in PROVIDERS)
        for place, (one, other) in enumerate(zip(first["tokens"], second["tokens"], strict=False)):
            total += 1
            if one != other:
                break  # what follows has another beginning
            same += 1
            largest = max(largest, abs(first["token_logprobs"][place] - second["token_logprobs"][place]))
    words = f"{same} of {total} next tokens the same, their log probabilities within {largest:.1e}"
    is_near = same == total and largest <= EXACT if model.precision == "fp32" else same >= AGREEMENT * total
    return words, is_near


def _scores(answer: Any) -> dict[str, float]:
    found = answer[0] if isinstance(answer[0], list) else answer
    return {item["label"]: item["score"] for item in found}


def rate(model: Served, url: str, clients: int, requests: int, seed: int) -> float:
    """Requests, or generated tokens, per second."""
    generates = model.task == "textGeneration"
    if generates:
        path = "/v1/completions"
        given = {"model": "model", "max_tokens": 32, "temperature": 0}
        bodies: list[dict[str, Any]] = [{**given, "prompt": prompt} for prompt in prompts(requests, seed)]
    else:
        path = "/predict" if model.task == "sequenceClassification" else "/"
        bodies = [{"inputs": text} for text in texts(requests)]
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(lambda body: ask(url, path, body), bodies))
    done = sum(answer["usage"]["completion_tokens"] for answer in answers) if generates else requests
    return float(done / (time.perf_counter() - started))


def measure(model: Served, urls: dict[str, str], rounds: int, requests: int) -> Iterator[list[str]]:
    """Rows of the table: the medians of both providers, and of the ratios of the rounds."""
    for clients in (1, 8) if rounds else ():
        rates: dict[str, list[float]] = {name: [] for name in PROVIDERS}
        for number in range(rounds + 1):
            for name in PROVIDERS if number % 2 else reversed(PROVIDERS):
                found = rate(model, urls[name], clients, requests, seed=100 * clients + number)
                if number:  # the first round warms up
                    rates[name].append(found)
        ratios = [b / a for a, b in zip(rates["cpu"], rates["openvino"], strict=True)]
        unit = "tokens/s" if model.task == "textGeneration" else "requests/s"
        middle = [f"{statistics.median(rates[name]):,.0f}" for name in PROVIDERS]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        yield [model.name, model.precision, str(clients), unit, *middle, spread]


def run(options: argparse.Namespace) -> int:
    """Compare and measure every model; return 1 if the answers of one differ by more than its bound."""
    python = openvino_python()
    rows, failed = [], 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = [*text_models(folder, options.quick, options.larger), *other_models(folder, options.quick)]
        for model in models:
            with ExitStack() as stack:
                urls = {name: stack.enter_context(serving(model, name, python, options.threads)) for name in PROVIDERS}
                words, is_within = difference(model, urls)
                print(
                    f"{model.name}, {model.precision}: {words}{'' if is_within else ' - NOT WITHIN THE BOUND'}",
                    flush=True,
                )
                failed += not is_within
                for row in measure(model, urls, options.rounds, options.requests):
                    print(f"  {', '.join(row)}", flush=True)
                    rows.append(row)
    print("\n| model | precision | clients | unit | default | OpenVINO | OpenVINO over it |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny models, one round")
    parser.add_argument("--larger", action="store_true", help="also a model of 12 layers")
    parser.add_argument("--threads", type=int, default=1, help="threads of each server")
    parser.add_argument("--rounds", type=int, default=3, help="0 only compares the answers")
    parser.add_argument("--requests", type=int, default=16, help="requests of a round")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.requests = 1, 8
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
