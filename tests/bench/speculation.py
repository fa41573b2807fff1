"""Tokens per second with and without drafts, of text that repeats and text that does not, in one run.

A small Llama that has learned six sentences is served by three engines in this process: one with `draftTokens: 0`, one
with prompt lookup, and one that has a much smaller draft model besides, with the same sentences. Rounds alternate
between them. Text that repeats is sentences after themselves, greedy; text that is new is one sentence, which only the
models know; text that neither knows is sampled at a high temperature from random prompts. Only the ratios mean
something.

    python tests/bench/speculation.py            # about 6 minutes on 2 cores
    python tests/bench/speculation.py --quick    # a tiny model: shows that everything runs
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.repeating_model import repeating_artifact
from support.tiny_models import CORPUS
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.text_generation.batching.collect import Collector
from tunesmith_serving.engines.text_generation.batching.speculation.stats import DraftCounts
from tunesmith_serving.engines.text_generation.batching.types import GenerationRequest, SamplingParams
from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine
from tunesmith_serving.runtime.config import ServingConfig

SMALL = {"hidden_size": 384, "intermediate_size": 1024, "layers": 8, "heads": 6, "kv_heads": 2, "context_length": 1024}
TINY = {"hidden_size": 64, "intermediate_size": 128, "layers": 1, "context_length": 1024}
CLIENTS = (1, 4, 8)
PRECISIONS = ("int4", "fp32")


def load(artifact: Path, precision: str, drafts: int, draft: Path | None = None) -> TextGenerationEngine:
    config = ServingConfig.model_validate(
        {
            "precision": precision,
            "draft_tokens": drafts,
            "draft_model": str(draft or ""),
            "context_length": 1024,
            "prefix_cache_memory": "0",
            "threads": 1,  # less noise where other processes compute
        }
    )
    return TextGenerationEngine.load(open_artifact(artifact, precision), config)


def requests_of(engine: TextGenerationEngine, text: str, count: int, tokens: int) -> list[GenerationRequest]:
    draw = random.Random(2)
    found = []
    for index in range(count):
        if text == "neither":
            prompt = [draw.randrange(3, engine.batcher.vocab_size) for _ in range(64)]
            sampling = SamplingParams(max_tokens=tokens, temperature=3.0, seed=index, ignore_eos=True)
        else:
            said = "\n".join([*draw.sample(CORPUS, 3), CORPUS[index % len(CORPUS)][:12]])
            if text == "new":
                said, tokens = CORPUS[index % len(CORPUS)][:6], min(tokens, 40)
            prompt = engine.tokenizer.encode(said, add_special_tokens=False)
            sampling = SamplingParams(max_tokens=tokens, temperature=0, ignore_eos=True)
        found.append(GenerationRequest(tuple(prompt), sampling))
    return found


def tokens_per_second(engine: TextGenerationEngine, requests: list[GenerationRequest]) -> float:
    collectors = [Collector() for _ in requests]
    started = time.perf_counter()
    engine.batcher.submit_all(list(zip(requests, collectors, strict=True)))
    tokens = sum(len(collector.result(600).token_ids) for collector in collectors)
    return tokens / (time.perf_counter() - started)


def counts_of(engine: TextGenerationEngine) -> DraftCounts:
    found = engine.batcher.stats().speculation
    assert found is not None and found.model is not None
    return found.model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    rounds, tokens = (2, 40) if quick else (5, 120)
    with tempfile.TemporaryDirectory() as folder:
        artifact = repeating_artifact(Path(folder) / "artifact", PRECISIONS, **({} if quick else SMALL))
        draft = repeating_artifact(Path(folder) / "draft", ("int4",), **TINY)
        print("| precision | text | clients | tokens/s without | lookup | and model | ratios | right of the model's |")
        print("|---|---|---|---|---|---|---|---|")
        for precision in PRECISIONS:
            engines = [load(artifact, precision, 0), load(artifact, precision, 5), load(artifact, precision, 5, draft)]
            for text in ("repeats", "new", "neither"):
                for clients in CLIENTS:
                    requests = requests_of(engines[0], text, clients, tokens)
                    before = counts_of(engines[2])
                    rates = [[tokens_per_second(engine, requests) for engine in engines] for _ in range(rounds + 1)][1:]
                    after = counts_of(engines[2])
                    shown = " | ".join(f"{statistics.median(values):.0f}" for values in zip(*rates, strict=True))
                    ratios = ", ".join(
                        f"{statistics.median(row[index] / row[0] for row in rates):.2f}" for index in (1, 2)
                    )
                    right = f"{after.accepted - before.accepted} of {after.drafted - before.drafted}"
                    print(f"| {precision} | {text} | {clients} | {shown} | {ratios} | {right} |", flush=True)
            for engine in engines:
                engine.close()


if __name__ == "__main__":
    main()
