"""Random schedules: whatever the others do, and whatever is cached, a request gets the tokens that it gets alone.

SCHEDULES sets how many are tried; `make schedules` tries 2,000.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.lora_artifacts import make_adapter
from support.lora_variants import variant
from support.serving_process import wait_until
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.text_generation.adapters.loading import load_adapter
from tunesmith_serving.engines.text_generation.adapters.loading import lora_base as base_of
from tunesmith_serving.engines.text_generation.batching.batcher import ContinuousBatcher
from tunesmith_serving.engines.text_generation.batching.collect import Collector
from tunesmith_serving.engines.text_generation.batching.decoder import OnnxDecoder
from tunesmith_serving.engines.text_generation.batching.types import (
    Completion,
    Event,
    GenerationRequest,
    SamplingParams,
)
from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine

from .conftest import config, load_engine

SCHEDULES = int(os.environ.get("SCHEDULES", "60"))
# Of a token whose keys and values were computed alone, and of the same token computed with others (decoder.py).
ROUNDING = 1e-3
# Few slots, chunks that do and do not fit the blocks, little memory for prefixes and, once, for rows: 300 tokens. At
# last a chunk that what is left of several prompts fits into.
ADAPTERS = ("a", "b")
SETTINGS: list[dict[str, object]] = [
    {"max_batch_size": 4, "prefill_chunk": 32, "prefix_cache_memory": "auto"},
    {"max_batch_size": 2, "prefill_chunk": 17, "prefix_cache_memory": "200k"},
    {"max_batch_size": 6, "prefill_chunk": 128, "prefix_cache_memory": "100k"},
    {"max_batch_size": 4, "prefill_chunk": 64, "prefix_cache_memory": "auto", "free": 600 * 512},
    {"max_batch_size": 8, "prefill_chunk": 256, "prefix_cache_memory": "auto"},
]


@dataclass(frozen=True)
class Arrival:
    """A request of a schedule.

    Attributes:
        after: Tokens that are generated before it arrives.
        at_once: If there are none, it arrives together with the one before it.
        begins_like: A prefix that others may have too, and how many tokens of it.
        own: Tokens that nobody else has.
        continues: Goes on with what an earlier request said and got, as a conversation does.
        adapter: Its adapter.
        sampling: How it is answered.
        cancelled_after: Tokens after which its client goes away.
    """

    after: int
    at_once: bool
    begins_like: tuple[int, int]
    own: int
    continues: bool
    adapter: str | None
    sampling: SamplingParams
    cancelled_after: int | None


def _sampling(tokens: int, seed: int | None, penalty: float) -> SamplingParams:
    temperature = 0.0 if seed is None else 1.0
    return SamplingParams(
        max_tokens=tokens, temperature=temperature, seed=seed, repetition_penalty=penalty, ignore_eos=True
    )


arrivals = st.builds(
    Arrival,
    after=st.sampled_from([0, 0, 0, 0, 1, 5, 20]),
    at_once=st.sampled_from([True, True, False]),
    begins_like=st.tuples(st.integers(0, 2), st.sampled_from([0, 3, 15, 16, 17, 32, 48, 63, 64, 65, 100])),
    own=st.one_of(st.integers(1, 40), st.integers(18, 30)),
    continues=st.sampled_from([False, False, False, True]),
    adapter=st.sampled_from([None, None, *ADAPTERS]),
    sampling=st.builds(
        _sampling,
        st.sampled_from([1, 2, 15, 16, 17, 30]),
        st.one_of(st.none(), st.integers(0, 5)),
        st.sampled_from([1.0, 1.0, 1.3]),
    ),
    cancelled_after=st.sampled_from([None, None, None, 0, 3]),
)


@pytest.fixture(scope="module")
def start(lora_base: Path) -> Iterator[Callable[..., ContinuousBatcher]]:
    loaded: list[TextGenerationEngine] = []
    base = base_of(open_artifact(lora_base, "fp32"))
    folders = [make_adapter(lora_base.with_name("schedule-a"), lora_base, seed=1)]
    folders.append(variant(folders[0], lora_base.with_name("schedule-b"), seed=2))
    adapters = [load_adapter(folder, name, base) for folder, name in zip(folders, ADAPTERS, strict=True)]

    def load(free: int = 1 << 30, **options: object) -> ContinuousBatcher:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"{OnnxDecoder.__module__}.free_memory", lambda: free)
            loaded.append(load_engine(lora_base, config(max_queue_length=100, context_length=256, **options)))
        for adapter in adapters:
            loaded[-1].adapters.add(adapter)
        return loaded[-1].batcher

    yield load
    for engine in loaded:
        engine.close()


class Alone:
    """What requests get alone, without a cache, from chunks of the same length."""

    def __init__(self, start: Callable[..., ContinuousBatcher]) -> None:
        self._start = start
        self._batchers: dict[object, ContinuousBatcher] = {}
        self._answers: dict[tuple[object, GenerationRequest], Completion] = {}

    def answer(self, chunk: object, request: GenerationRequest) -> Completion:
        if chunk not in self._batchers:
            self._batchers[chunk] = self._start(max_batch_size=1, prefill_chunk=chunk, prefix_cache_memory="0")
        key = (chunk, request)
        if key not in self._answers:
            self._answers[key] = self._batchers[chunk].generate(request, 60)
        return self._answers[key]

    def is_tie(self, chunk: object, request: GenerationRequest, at: int) -> bool:
        """Whether two tokens are equally likely at a position of the answer, but for rounding."""
        sampling = replace(request.sampling, logprobs=2)
        entry = self.answer(chunk, replace(request, sampling=sampling)).logprobs[at]
        return entry.top[0][1] - entry.top[1][1] < ROUNDING


class Client:
    """Collects an answer, and goes away after some tokens."""

    def __init__(self, batcher: ContinuousBatcher, request: GenerationRequest, cancelled_after: int | None) -> None:
        self.request, self.tokens, self.cached = request, [], 0
        self._collector = Collector()
        self._cancelled_after = cancelled_after
        self._ticket = batcher.submit(request, self._sink)
        if cancelled_after == 0:
            self._ticket.cancel()

    def _sink(self, event: Event) -> None:
        self.tokens += event.token_ids
        self.cached += event.cached_tokens
        if self._cancelled_after and len(self.tokens) >= self._cancelled_after and event.finish_reason is None:
            self._ticket.cancel()
        self._collector(event)

    def result(self) -> Completion | None:
        """Wait for the end; None if it was cancelled."""
        whole = self._collector.result(300)
        return None if whole.finish_reason == "cancelled" else whole


class TokenSource:
    """Tokens of prompts: those of the same prefix are equal, all others differ."""

    def __init__(self) -> None:
        self._next = 0

    def prefix(self, number: int, length: int) -> tuple[int, ...]:
        return tuple(3 + (number * 131 + 7 * i * i + i) % 490 for i in range(length))

    def own(self, length: int) -> tuple[int, ...]:
        self._next += 1
        return tuple(3 + (self._next * 7919 + i * (self._next + 13)) % 490 for i in range(length))


@pytest.fixture(scope="module")
def run(start: Callable[..., ContinuousBatcher]) -> Iterator[Callable[[int, list[Arrival]], None]]:
    batchers = [start(**options) for options in SETTINGS]
    alone, source, hits = Alone(start), TokenSource(), []

    def play(number: int, schedule: list[Arrival]) -> None:
        batcher, chunk = batchers[number], SETTINGS[number]["prefill_chunk"]
        clients: list[tuple[Client, bool]] = []
        with ExitStack() as burst:
            for arrival in schedule:
                if arrival.after or arrival.continues or not arrival.at_once:
                    burst.close()
                _wait_for_tokens(batcher, arrival.after)
                ids = source.prefix(*arrival.begins_like) + source.own(arrival.own)
                sampling = arrival.sampling
                if arrival.continues and clients:
                    before = clients[-1][0]
                    before.result()
                    ids = (*before.request.prompt_ids, *before.tokens, *ids)[-200:]
                    sampling = replace(sampling, temperature=0.0, seed=None, repetition_penalty=1.0)
                request = GenerationRequest(ids, sampling, arrival.adapter)
                burst.enter_context(batcher._wake)  # nothing of what arrives at once begins before the rest is there
                clients.append((Client(batcher, request, arrival.cancelled_after), arrival.continues))
        for client, continues in clients:
            result = client.result()
            expected = alone.answer(chunk, client.request).token_ids
            got = tuple(client.tokens)
            if got != expected[: len(got)]:
                at = next(i for i, pair in enumerate(zip(got, expected, strict=False)) if pair[0] != pair[1])
                assert continues and alone.is_tie(chunk, client.request, at), (client.request, got, expected)
            elif result is not None:
                assert got == expected
            assert client.cached < len(client.request.prompt_ids)
            hits.append(client.cached)
        stats = batcher.stats()
        assert (stats.slots_in_use, stats.queue_length) == (0, 0)

    yield play
    assert sum(hits) > 1000, "prefixes must really have been found"


def _wait_for_tokens(batcher: ContinuousBatcher, count: int) -> None:
    target = batcher.stats().generated_tokens + count

    def moved_on() -> bool:
        stats = batcher.stats()
        return stats.generated_tokens >= target or not (stats.slots_in_use or stats.queue_length)

    wait_until(moved_on)


@settings(
    max_examples=SCHEDULES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(number=st.integers(0, len(SETTINGS) - 1), schedule=st.lists(arrivals, min_size=2, max_size=8))
def test_every_request_gets_what_it_gets_alone(
    run: Callable[[int, list[Arrival]], None], number: int, schedule: list[Arrival]
) -> None:
    run(number, schedule)
