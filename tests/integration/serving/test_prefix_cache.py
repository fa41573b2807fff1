"""What was computed before is not computed again, and keys and values take no more memory than there is."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import openai
import pytest

from support.serving_process import ServingProcess, wait_until
from tunesmith_serving.engines.text_generation.batching.collect import Collector
from tunesmith_serving.engines.text_generation.batching.decoder import OnnxDecoder
from tunesmith_serving.engines.text_generation.batching.types import (
    CacheStats,
    Completion,
    GenerationRequest,
    PromptTooLongError,
    SamplingParams,
)
from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine

from .conftest import config, load_engine
from .test_http import metric

Load = Callable[..., TextGenerationEngine]
PREFIX = tuple(3 + 7 * i * i % 490 for i in range(100))
TOKEN_BYTES = 512  # of the tiny model: 2 layers, keys and values, 2 heads of 16 numbers


def greedy(tokens: int) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, logprobs=2)


def request(*own: int, prefix: tuple[int, ...] = PREFIX) -> GenerationRequest:
    return GenerationRequest(prefix + own, greedy(4))


def cache(loaded: TextGenerationEngine) -> CacheStats:
    stats = loaded.batcher.stats().cache
    assert stats is not None
    return stats


def at_once(loaded: TextGenerationEngine, requests: Iterable[GenerationRequest]) -> list[Completion]:
    """Submit requests together, and return their answers."""
    collectors = [(one, Collector()) for one in requests]
    loaded.batcher.submit_all(collectors)
    return [collector.result(300) for _, collector in collectors]


def test_a_prefix_is_computed_once(load: Load) -> None:
    plain, cached = load(prefix_cache_memory="0").batcher, load()
    asked = [request(5, 6), request(5, 7), request(9), request(5, 6), request(8, 9, prefix=PREFIX[:33])]
    answers = [cached.batcher.generate(one, 60) for one in asked]
    # Whole blocks of 16 tokens, and never all of a prompt.
    assert [answer.cached_tokens for answer in answers] == [0, 96, 96, 96, 32]
    for one, answer in zip(asked, answers, strict=True):
        # With the log probabilities: equal to the last bit.
        assert replace(answer, cached_tokens=0) == plain.generate(one, 60)
    stats = cache(cached)
    assert (stats.query_tokens, stats.hit_tokens) == (sum(len(one.prompt_ids) for one in asked), 320)
    assert cached.batcher.stats().prompt_tokens == stats.query_tokens - stats.hit_tokens
    assert stats.prefix_bytes == stats.prefix_blocks * 16 * TOKEN_BYTES
    # The last block of each prompt that was computed is there too, with the first tokens of the answer.
    assert stats.prefix_blocks >= 6
    assert stats.row_bytes == 0


def test_a_conversation_goes_on_where_it_was(load: Load) -> None:
    plain, cached = load(prefix_cache_memory="0").batcher, load().batcher
    said: tuple[int, ...] = PREFIX[:20]
    for turn in range(4):
        one = GenerationRequest(said, greedy(30))
        answer = cached.generate(one, 60)
        if turn:
            # All of what was said before but the rest of a block; the last token's keys were never computed.
            assert answer.cached_tokens == (len(said) - 5 - 1) // 16 * 16
        # The answer's keys were computed one by one, by other kernels: equal tokens, not equal bits.
        expected = plain.generate(one, 60)
        assert answer.token_ids == expected.token_ids
        assert np.allclose([t.logprob for t in answer.logprobs], [t.logprob for t in expected.logprobs], atol=1e-3)
        said = (*said, *answer.token_ids, 7, 8, 9, 10, 11 + turn)


def test_requests_that_arrive_together_share_what_the_first_computes(load: Load) -> None:
    loaded = load(max_batch_size=8, prefill_chunk=256)
    answers = at_once(loaded, [request(own, own + 1) for own in range(10, 18)])
    assert [answer.cached_tokens for answer in answers] == [0] + [96] * 7
    assert loaded.batcher.stats().prompt_tokens == 102 + 7 * 6


def spy_on_runs(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, int]]]:
    """What is computed together: how many tokens each row holds, and how many it gets."""
    runs: list[list[tuple[int, int]]] = []
    compute = OnnxDecoder.prefill_together

    def spy(
        decoder: OnnxDecoder, first: int, prompts: list[np.ndarray], adapters: list[None], past: list[int] | None
    ) -> np.ndarray:
        runs.append(list(zip(past or [0] * len(prompts), map(len, prompts), strict=True)))
        return compute(decoder, first, prompts, adapters, past)

    monkeypatch.setattr(OnnxDecoder, "prefill_together", spy)
    return runs


@pytest.fixture
def load_ragged(lora_base: Path) -> Iterator[Load]:
    """Loads a model whose rows can have different numbers of tokens."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(closing(load_engine(lora_base, config(**options))))


def test_what_is_left_of_prompts_is_computed_in_one_run(load_ragged: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each another part is in the cache, and the last but one goes on like the one before it."""
    plain = load_ragged(prefix_cache_memory="0", max_batch_size=1, prefill_chunk=128).batcher
    loaded = load_ragged(max_batch_size=9, prefill_chunk=128)
    loaded.batcher.generate(GenerationRequest(PREFIX, greedy(1)), 60)
    runs = spy_on_runs(monkeypatch)
    own = [tuple(3 + (number * 57 + i * i) % 490 for i in range(30)) for number in range(5)]
    ends = [(96, own[0]), (48, own[1][:25]), (0, own[2]), (64, own[3]), (64, (*own[3][:20], 9, 8, 7)), (16, own[4][:4])]
    asked = [GenerationRequest((*PREFIX[:held], *end), greedy(8)) for held, end in ends]
    answers = at_once(loaded, asked)
    assert runs == [[(96, 30), (48, 25), (0, 30), (64, 30)], [(80, 7), (16, 4)]]
    for one, answer in zip(asked, answers, strict=True):
        assert replace(answer, cached_tokens=0) == plain.generate(one, 60)
    assert [answer.cached_tokens for answer in answers] == [96, 48, 0, 64, 80, 16]


@pytest.mark.parametrize("chunk", [1, 32, 33, 128])
def test_no_token_is_computed_alone(load: Load, chunk: int) -> None:
    plain, cached = load(prefix_cache_memory="0", prefill_chunk=chunk).batcher, load(prefill_chunk=chunk).batcher
    for length in (1, 2, 16, 17, 18, 31, 32, 33, 34, 48, 49, 63, 64, 65, 66, 97, 98, 99, 100):
        one = GenerationRequest(PREFIX[:length], greedy(3))
        assert replace(cached.generate(one, 60), cached_tokens=0) == plain.generate(one, 60), length
    assert cached.stats().prompt_tokens < plain.stats().prompt_tokens / 3


def test_short_prompts_that_wait_are_computed_in_one_run(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, loaded = load(prefix_cache_memory="0", max_batch_size=1).batcher, load(max_batch_size=9, prefill_chunk=128)
    runs = spy_on_runs(monkeypatch)
    # The first three fit; then one that would be mostly padding, two that begin alike, and a single token.
    lengths = [20, 17, 25, 3, 18, 18, 2, 1, 2]
    prompts = [tuple(3 + (index * 31 + i * i) % 490 for i in range(length)) for index, length in enumerate(lengths)]
    prompts[5] = (*prompts[4][:17], 4)
    asked = [GenerationRequest(prompt, greedy(8)) for prompt in prompts]
    answers = at_once(loaded, asked)
    assert runs == [[(0, 20), (0, 17), (0, 25)]]
    for one, answer in zip(asked, answers, strict=True):
        assert replace(answer, cached_tokens=0) == plain.generate(one, 60)
    assert [answer.cached_tokens for answer in answers] == [0, 0, 0, 0, 0, 16, 0, 0, 0]


def with_memory(load: Load, monkeypatch: pytest.MonkeyPatch, tokens: int, **options: object) -> TextGenerationEngine:
    """Load an engine with memory for the keys and values of so many tokens."""
    free = tokens * TOKEN_BYTES * 2
    monkeypatch.setattr(f"{OnnxDecoder.__module__}.free_memory", lambda: free)
    return load(**options)


def test_a_request_waits_for_memory(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = with_memory(load, monkeypatch, 600, max_batch_size=8, context_length=512)
    assert loaded.batcher.context_length == 512
    asked = [GenerationRequest(PREFIX[index : index + 40], greedy(160)) for index in range(5)]
    collectors = [(one, Collector()) for one in asked]
    most: list[int] = []
    loaded.batcher.submit_all(collectors)

    def ended() -> bool:
        stats = loaded.batcher.stats()
        most.append(stats.slots_in_use)
        return not stats.slots_in_use and not stats.queue_length

    wait_until(ended)
    # 200 tokens each.
    assert max(most) == 3
    plain = load(prefix_cache_memory="0").batcher
    assert [c.result(1).token_ids for _, c in collectors] == [plain.generate(one, 60).token_ids for one in asked]


def test_a_request_that_never_fits_is_refused(
    load: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    batcher = with_memory(load, monkeypatch, 64).batcher
    assert batcher.context_length == 64
    assert "memory for the keys and values of 64 tokens: contextLength is lowered from 512" in caplog.text
    with pytest.raises(PromptTooLongError, match=r"has 100 tokens .* is 64 \(contextLength is 512, but the server has"):
        batcher.generate(GenerationRequest(PREFIX, greedy(1)), 60)
    answer = batcher.generate(GenerationRequest(PREFIX[:60], greedy(100)), 60)
    assert (len(answer.token_ids), answer.finish_reason) == (4, "length")


def test_usage_and_metrics_say_what_was_cached(server: ServingProcess, client: openai.OpenAI) -> None:
    before = metric(server, "tunesmith_prefix_cache_hit_tokens_total")
    prompt = list(PREFIX)
    cached = []
    for _ in range(2):
        completion = client.completions.create(model="tiny", prompt=prompt, max_tokens=2, temperature=0)
        assert completion.usage and completion.usage.prompt_tokens_details
        cached.append(completion.usage.prompt_tokens_details.cached_tokens)
    assert cached == [0, 96]
    options = {"include_usage": True}
    stream = list(client.completions.create(model="tiny", prompt=prompt, stream=True, stream_options=options))
    assert stream[-1].usage.prompt_tokens_details.cached_tokens == 96
    assert metric(server, "tunesmith_prefix_cache_hit_tokens_total") == before + 192
    assert metric(server, "tunesmith_prefix_cache_query_tokens_total") >= before + 300
    assert metric(server, "tunesmith_prefix_cache_bytes") >= 6 * 16 * TOKEN_BYTES
