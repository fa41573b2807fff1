"""Tokens per second with and without drafts, of text that repeats and text that does not, in one run.

A small Llama that has learned six sentences is served by two engines in this process, one with `draftTokens: 0`.
Rounds alternate between them. Repeating text is the sentences, greedy; the other is sampled at a high temperature from
random prompts. Only the ratios mean something.

    python tests/bench/speculation.py            # about 3 minutes on 2 cores
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
from tunesmith_serving.engines.text_generation.batching.types import GenerationRequest, SamplingParams
from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine
from tunesmith_serving.runtime.config import ServingConfig

SMALL = {"hidden_size": 384, "intermediate_size": 1024, "layers": 8, "heads": 6, "kv_heads": 2, "context_length": 1024}
CLIENTS = (1, 4, 8)
PRECISIONS = ("int4", "fp32")


def load(artifact: Path, precision: str, drafts: int) -> TextGenerationEngine:
    config = ServingConfig.model_validate(
        {
            "precision": precision,
            "draft_tokens": drafts,
            "context_length": 1024,
            "prefix_cache_memory": "0",
            "threads": 1,  # less noise where other processes compute
        }
    )
    return TextGenerationEngine.load(open_artifact(artifact, precision), config)


def requests_of(engine: TextGenerationEngine, repeats: bool, count: int, tokens: int) -> list[GenerationRequest]:
    draw = random.Random(2)
    found = []
    for index in range(count):
        if repeats:
            said = "\n".join([*draw.sample(CORPUS, 3), CORPUS[index % len(CORPUS)][:12]])
            prompt = engine.tokenizer.encode(said, add_special_tokens=False)
            sampling = SamplingParams(max_tokens=tokens, temperature=0, ignore_eos=True)
        else:
            prompt = [draw.randrange(3, engine.batcher.vocab_size) for _ in range(64)]
            sampling = SamplingParams(max_tokens=tokens, temperature=3.0, seed=index, ignore_eos=True)
        found.append(GenerationRequest(tuple(prompt), sampling))
    return found


def tokens_per_second(engine: TextGenerationEngine, requests: list[GenerationRequest]) -> float:
    collectors = [Collector() for _ in requests]
    started = time.perf_counter()
    engine.batcher.submit_all(list(zip(requests, collectors, strict=True)))
    tokens = sum(len(collector.result(600).token_ids) for collector in collectors)
    return tokens / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    rounds, tokens = (2, 40) if quick else (5, 120)
    with tempfile.TemporaryDirectory() as folder:
        artifact = repeating_artifact(Path(folder) / "artifact", PRECISIONS, **({} if quick else SMALL))
        print("| precision | text | clients | tokens/s without | with drafts | ratio | drafts right |")
        print("|---|---|---|---|---|---|---|")
        for precision in PRECISIONS:
            plain, drafting = (load(artifact, precision, drafts) for drafts in (0, 5))
            for repeats in (True, False):
                for clients in CLIENTS:
                    requests = requests_of(plain, repeats, clients, tokens)
                    before = drafting.batcher.stats().speculation
                    rates: list[tuple[float, float]] = []
                    for _ in range(rounds + 1):
                        rates.append((tokens_per_second(plain, requests), tokens_per_second(drafting, requests)))
                    after = drafting.batcher.stats().speculation
                    assert before is not None and after is not None, "the batcher counts drafts"
                    drafted, right = after.drafted - before.drafted, after.accepted - before.accepted
                    without, with_drafts = (statistics.median(values) for values in zip(*rates[1:], strict=True))
                    ratio = statistics.median(second / first for first, second in rates[1:])
                    text = "repeats" if repeats else "does not"
                    print(
                        f"| {precision} | {text} | {clients} | {without:.0f} | {with_drafts:.0f} | {ratio:.2f} "
                        f"| {right} of {drafted} |",
                        flush=True,
                    )
            plain.close()
            drafting.close()


if __name__ == "__main__":
    main()
