"""What the form of an answer costs: tokens per second of rows that follow a JSON schema, against rows that are free.

One random-weight Llama, in the batcher without HTTP, which would cost both the same. Rounds alternate; the table gives
medians and their ratio, so that a machine with other work distorts less. With `--schemas`, the proof instead: answers
of a tiny model to that many schemas of the kind that the public JSON-Schema-Test-Suite has; each must be valid.

    python tests/bench/structured.py                # SmolLM2-135M's shape, about 4 minutes on 2 cores
    python tests/bench/structured.py --quick        # a small model of the same vocabulary, about 2 minutes
    python tests/bench/structured.py --schemas 500  # about 5 minutes
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

from jsonschema import Draft202012Validator

from bench.serving import SMOLLM2_135M, invented_words, prompt_ids
from support.json_schemas import closed, closing_tokens, make_schemas
from support.tiny_models import build_model, export_onnx, make_artifact, write_manifest
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.text_generation.batching.collect import Collector
from tunesmith_serving.engines.text_generation.batching.types import GenerationRequest, SamplingParams
from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine
from tunesmith_serving.engines.text_generation.structured import grammar
from tunesmith_serving.engines.text_generation.structured.compiler import GrammarCompiler
from tunesmith_serving.engines.text_generation.structured.grammar import Grammar
from tunesmith_serving.runtime.config import ServingConfig

SMALL = {**SMOLLM2_135M, "hidden_size": 256, "intermediate_size": 768, "layers": 8, "heads": 4, "kv_heads": 2}
# Answers that never end by themselves, so that all rows have the same number of tokens.
FORMS = {
    "free text in JSON": grammar.json_schema({"type": "array", "items": {"type": "string"}, "minItems": 9999}),
    "records": grammar.json_schema({
        "type": "array",
        "items": closed({
            "name": {"type": "string", "maxLength": 30},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "kind": {"enum": ["customer", "supplier", "partner"]},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 1, "maxItems": 3},
        }),
        "minItems": 9999,
    }),
    "regular expression": grammar.regex(r"([a-z]+ ){9999}"),
}  # fmt: skip


def load(artifact: Path, threads: int, slots: int, precision: str) -> TextGenerationEngine:
    """An engine in this process."""
    given = {"precision": precision, "threads": threads, "context_length": 512, "max_batch_size": slots}
    config = ServingConfig.model_validate({**given, "max_queue_length": 1000})
    return TextGenerationEngine.load(open_artifact(artifact, precision), config)


def speed(engine: TextGenerationEngine, requests: list[GenerationRequest]) -> float:
    """Tokens per second of requests that are there at once."""
    collectors = [Collector() for _ in requests]
    started = time.perf_counter()
    engine.batcher.submit_all(list(zip(requests, collectors, strict=True)))
    tokens = sum(len(collector.result(600).token_ids) for collector in collectors)
    return tokens / (time.perf_counter() - started)


def compare(options: argparse.Namespace, folder: Path) -> None:
    """Print the table."""
    sizes = SMALL if options.quick else SMOLLM2_135M
    model = build_model(folder / "model.hf", "llama", **sizes, texts=invented_words(60_000))
    artifact = folder / "model"
    export_onnx(model, artifact, options.precision)
    write_manifest(artifact)
    engine = load(artifact, options.threads, options.clients, options.precision)
    compiler = GrammarCompiler(engine.tokenizer, engine.batcher.vocab_size, engine.stop_token_ids)
    prompts = prompt_ids(options.clients, 64, sizes["vocab_size"])

    def requests(form: Grammar | None, temperature: float) -> list[GenerationRequest]:
        source = None if form is None else compiler.compile_now(form)
        params = [
            SamplingParams(max_tokens=options.new_tokens, temperature=temperature, seed=seed, ignore_eos=form is None)
            for seed in range(len(prompts))
        ]
        return [
            GenerationRequest(tuple(prompt), one, constraint=source)
            for prompt, one in zip(prompts, params, strict=True)
        ]

    print(f"{options.clients} rows, {options.new_tokens} tokens each, {options.threads} threads, {options.precision}")
    for temperature in (0.0, 1.0):
        samples: dict[str, list[float]] = {"free": [], **{name: [] for name in FORMS}}
        for _ in range(options.rounds + 1):
            for name, found in samples.items():
                found.append(speed(engine, requests(FORMS.get(name), temperature)))
        medians = {name: statistics.median(found[1:]) for name, found in samples.items()}
        for name, median in medians.items():
            print(f"temperature {temperature:g}  {name:20} {median:8.1f} tokens/s  {median / medians['free']:.3f}")
    engine.close()


def prove(options: argparse.Namespace, folder: Path) -> None:
    """Ask a tiny model for answers to schemas, and validate each."""
    engine = load(make_artifact(folder / "tiny"), options.threads, options.clients, "fp32")
    compiler = GrammarCompiler(engine.tokenizer, engine.batcher.vocab_size, engine.stop_token_ids)
    bias = tuple((token, 6 * value) for token, value in closing_tokens(engine.tokenizer).items())
    found = {"valid": 0, "cut": 0, "refused": 0, "invalid": 0}
    for number, schema in enumerate(make_schemas(options.schemas)):
        validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        try:
            source = compiler.compile_now(grammar.json_schema(schema))
        except grammar.GrammarError as error:
            print("refused:", json.dumps(schema), error)
            found["refused"] += 1
            continue
        params = [
            SamplingParams(temperature=temperature, seed=number, logit_bias=bias) for temperature in (0.0, 0.7, 1.5)
        ]
        collectors = [Collector() for _ in params]
        for one, collector in zip(params, collectors, strict=True):
            prompt = tuple(engine.tokenizer.encode(f"Answer {number}: ", add_special_tokens=True))
            engine.batcher.submit(GenerationRequest(prompt, one, constraint=source), collector)
        for collector in collectors:
            answer = collector.result(600)
            if answer.finish_reason == "length":
                found["cut"] += 1
                continue
            errors = _errors(validator, answer.text)
            found["invalid" if errors else "valid"] += 1
            if errors:
                print("invalid:", json.dumps(schema), repr(answer.text), errors)
    engine.close()
    print(f"{options.schemas} schemas, 3 answers each: {found}")
    if found["invalid"] or found["refused"] or found["cut"] > found["valid"] / 20:
        raise SystemExit(1)


def _errors(validator: Any, text: str) -> list[str]:
    try:
        return [error.message for error in validator.iter_errors(json.loads(text))]
    except ValueError as error:
        return [str(error)]


def main() -> None:
    """Run the comparison, or the proof."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--schemas", type=int, default=0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="int4")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (prove if options.schemas else compare)(options, Path(folder))


if __name__ == "__main__":
    main()
