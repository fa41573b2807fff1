"""Many adapters on one base: each answer is what its adapter gives alone."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.lora_artifacts import make_adapter, make_base, peft_logits
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.text_generation.adapters.loading import load_adapter, lora_base
from tunesmith_serving.engines.text_generation.batching.collect import Collector
from tunesmith_serving.engines.text_generation.batching.speculation.plan import StepCost
from tunesmith_serving.engines.text_generation.batching.types import Completion, GenerationRequest, SamplingParams
from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine
from tunesmith_serving.runtime.config import ServingConfig

COUNT = 8
RANKS = (4, 3, 8, 1, 16, 4, 5, 4)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("lora") / "base", precisions=("fp32",))


@pytest.fixture(scope="session")
def adapters(base: Path) -> list[Path]:
    """Of several ranks, and of all linear layers or a few."""
    return [
        make_adapter(
            base.with_name(f"adapter-{index}"),
            base,
            name=f"adapter-{index}",
            rank=rank,
            use_rslora=index == 3,
            target_modules="all-linear" if index % 3 else ["q_proj", "down_proj"],
            seed=index,
        )
        for index, rank in enumerate(RANKS)
    ]


def load(base: Path, adapters: list[Path], **options: object) -> TextGenerationEngine:
    given = {"precision": "fp32", "threads": 1, "context_length": 256, "prefill_chunk": 32, **options}
    config = ServingConfig.model_validate(given)
    artifact = open_artifact(base, "fp32")
    engine = TextGenerationEngine.load(artifact, config)
    for folder in adapters:
        engine.adapters.add(load_adapter(folder, folder.name, lora_base(artifact)))
    return engine


@pytest.fixture
def engine(base: Path, adapters: list[Path]) -> Iterator[TextGenerationEngine]:
    # With drafts, several tokens are computed by other kernels than one: the last bits of log probabilities differ.
    loaded = load(base, adapters, max_batch_size=8, draft_tokens=0)
    yield loaded
    loaded.close()


def greedy(prompt: tuple[int, ...], adapter: str | None, tokens: int = 24) -> GenerationRequest:
    params = SamplingParams(max_tokens=tokens, temperature=0, ignore_eos=True, logprobs=1)
    return GenerationRequest(prompt, params, adapter)


def first_time(engine: TextGenerationEngine, request: GenerationRequest) -> Completion:
    """The answer to a request by itself, without what the prefix cache has of others."""
    engine.batcher._prefix._blocks.clear()
    answer = engine.batcher.generate(request, 60)
    assert answer.cached_tokens == 0
    return answer


def test_an_answer_is_what_peft_computes(engine: TextGenerationEngine, base: Path, adapters: list[Path]) -> None:
    prompt = (5, 80, 33, 7, 120, 64)
    texts = set()
    for folder in (None, *adapters[:5]):
        answer = engine.batcher.generate(greedy(prompt, folder.name if folder else None, 8), 60)
        logits = peft_logits(base, folder, [*prompt, *answer.token_ids])[len(prompt) - 1 : -1]
        assert tuple(logits.argmax(axis=1)) == answer.token_ids, folder
        wanted = logits.max(axis=1) - np.log(np.exp(logits).sum(axis=1))
        assert np.allclose([entry.logprob for entry in answer.logprobs], wanted, atol=1e-4)
        texts.add(answer.token_ids)
    assert len(texts) == 6, "the adapters must differ"


def test_rows_of_a_batch_have_their_own_adapters(engine: TextGenerationEngine) -> None:
    """Requests come and go, so rows move and adapters change places. Prompts are shared, and their prefixes are not."""
    draw = random.Random(3)
    prompts = [tuple(draw.randrange(3, 512) for _ in range(length)) for length in (1, 5, 33, 33, 40)]
    names = [None, *(f"adapter-{index}" for index in range(COUNT))]
    requests = [
        greedy(
            draw.choice(prompts),
            draw.choice(names),
            draw.choice([1, 9, 30]),
        )
        for _ in range(60)
    ]
    alone = [first_time(engine, request) for request in requests]
    collectors = [Collector() for _ in requests]
    for start in range(0, len(requests), 12):
        together = zip(requests[start : start + 12], collectors[start : start + 12], strict=True)
        engine.batcher.submit_all(list(together))
    for request, expected, collector in zip(requests, alone, collectors, strict=True):
        # Log probabilities are compared too: they are equal to the last bit.
        assert replace(collector.result(60), cached_tokens=0) == expected, request
    assert engine.batcher.stats().cache.hit_tokens > 0


def test_drafts_are_checked_with_each_rows_adapter(
    engine: TextGenerationEngine, base: Path, adapters: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StepCost, "of", lambda *_: 1.0)  # as if any number of tokens cost the same
    drafting = load(base, adapters, max_batch_size=8, draft_tokens=4)
    # A request that repeats the tokens of an answer gets them as drafts, which are right with the same adapter only.
    names = [None, *(f"adapter-{index}" for index in range(COUNT))]
    prompt = (5, 80, 33, 7, 120)
    said = {name: engine.batcher.generate(greedy(prompt, name), 60).token_ids for name in names}
    requests = [greedy((*prompt, *said[other], *prompt), name) for name in names for other in (name, None)]
    alone = [engine.batcher.generate(request, 60).token_ids for request in requests]
    collectors = [Collector() for _ in requests]
    drafting.batcher.submit_all(list(zip(requests, collectors, strict=True)))
    found = [collector.result(60).token_ids for collector in collectors]
    stats = drafting.batcher.stats().speculation
    drafting.close()
    assert found == alone
    assert stats is not None and stats.drafted > 0
