"""Continuous batching: who else is in the batch changes nothing but the time."""

import random
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from support.serving_process import wait_until
from tunesmith_serving.engines.base import EngineFailedError
from tunesmith_serving.engines.text_generation.batching.collect import Collector
from tunesmith_serving.engines.text_generation.batching.types import (
    DrainingError,
    Event,
    GenerationRequest,
    InvalidRequestError,
    PromptTooLongError,
    QueueFullError,
    SamplingParams,
    TooManyRequestsError,
)
from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine

Load = Callable[..., TextGenerationEngine]
LONG = SamplingParams(temperature=0, max_tokens=400, ignore_eos=True)


def mixed_requests(count: int, vocab_size: int) -> list[GenerationRequest]:
    """Short and long, greedy and seeded, with and without filters, penalties and logprobs."""
    draw = random.Random(11)
    requests = []
    for index in range(count):
        prompt = tuple(draw.randrange(3, vocab_size) for _ in range(draw.choice([1, 5, 31, 32, 33, 64, 100])))
        greedy = index % 3 == 0
        sampling = SamplingParams(
            max_tokens=draw.choice([1, 4, 17, 40, 90]),
            temperature=0 if greedy else draw.choice([0.7, 1.0, 1.5]),
            top_p=draw.choice([1.0, 0.9, 0.5]),
            top_k=draw.choice([0, 0, 20]),
            min_p=draw.choice([0, 0, 0.05]),
            repetition_penalty=draw.choice([1.0, 1.0, 1.3]),
            frequency_penalty=draw.choice([0, 0, 0.5]),
            logit_bias=draw.choice([(), (), ((5, -100.0), (9, 3.0))]),
            seed=None if greedy else index,
            logprobs=draw.choice([None, 0, 3]),
        )
        requests.append(GenerationRequest(prompt, sampling))
    return requests


def together(loaded: TextGenerationEngine, requests: list[GenerationRequest]) -> tuple[list[Collector], int]:
    """Submit at random moments of the engine's progress; also returns the most slots seen in use."""
    draw = random.Random(5)
    collectors: list[Collector] = []
    most = 0
    for request in requests:
        collector = Collector()
        loaded.batcher.submit(request, collector)
        collectors.append(collector)
        target = loaded.batcher.stats().generated_tokens + draw.choice([0, 0, 3, 20, 50])

        def moved_on(target: int = target) -> bool:
            stats = loaded.batcher.stats()
            return stats.generated_tokens >= target or not (stats.slots_in_use or stats.queue_length)

        wait_until(moved_on)
        most = max(most, loaded.batcher.stats().slots_in_use)
    return collectors, most


@pytest.mark.parametrize(("seconds", "counts"), [(3600, [1, 29]), (0, [1] * 30)])
def test_tokens_of_fast_steps_go_out_together(
    load: Load, monkeypatch: pytest.MonkeyPatch, seconds: float, counts: list[int]
) -> None:
    monkeypatch.setattr("tunesmith_serving.engines.text_generation.batching.delivery.DELIVERY_SECONDS", seconds)
    engine = load().batcher
    request = GenerationRequest((5, 6, 7), SamplingParams(max_tokens=30, seed=1, logprobs=0, ignore_eos=True))
    collector = Collector()
    events: list[Event] = []

    def sink(event: Event) -> None:
        events.append(event)
        collector(event)

    engine.submit(request, sink)
    whole = collector.result(300)
    # The first token does not wait, nor does the end.
    assert [len(event.token_ids) for event in events] == counts
    assert "".join(event.text for event in events) == whole.text
    assert len(whole.logprobs) == 30


def test_48_requests_get_what_they_get_alone(load: Load) -> None:
    loaded = load(max_batch_size=8)
    requests = mixed_requests(48, loaded.batcher.vocab_size)
    alone = [loaded.batcher.generate(request, 60) for request in requests]
    collectors, most = together(loaded, requests)
    for request, expected, collector in zip(requests, alone, collectors, strict=True):
        # Log probabilities are compared too: they are equal to the last bit, also after a prefix from the cache.
        assert replace(collector.result(300), cached_tokens=0) == expected, request
    assert most > 2, "requests must really have shared the batch"
    assert loaded.batcher.stats().slots_in_use == 0


def test_int4_share_of_equal_tokens(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load(max_batch_size=8, precision="int4")
    requests = mixed_requests(48, loaded.batcher.vocab_size)
    alone = [loaded.batcher.generate(request, 60) for request in requests]
    collectors, _ = together(loaded, requests)
    equal = total = 0
    for expected, collector in zip(alone, collectors, strict=True):
        got = collector.result(300).token_ids
        total += len(expected.token_ids)
        equal += sum(a == b for a, b in zip(got, expected.token_ids, strict=False))
    with capsys.disabled():
        print(f"\nint4: {equal} of {total} tokens equal those of the same request alone ({equal / total:.1%})")
    assert equal / total > 0.5


def test_seeds_repeat_and_differ(load: Load) -> None:
    engine = load().batcher
    by_seed = {
        seed: [
            engine.generate(GenerationRequest((5, 6, 7), SamplingParams(max_tokens=24, seed=seed)), 30).token_ids
            for _ in range(2)
        ]
        for seed in (1, 2, -3)
    }
    assert all(first == second for first, second in by_seed.values())
    assert len({first for first, _ in by_seed.values()}) == 3


class Recorder:
    """Counts events, and can hold the engine's thread at the first token."""

    def __init__(self) -> None:
        self.tokens = 0
        self.last: Event | None = None

    def __call__(self, event: Event) -> None:
        self.tokens += len(event.token_ids)
        self.last = event


def test_others_stream_while_a_long_prompt_is_read(load: Load) -> None:
    loaded = load(max_batch_size=2, prefill_chunk=16)
    order: list[str] = []
    first = Recorder()

    def streaming(event: Event) -> None:
        first(event)
        order.append("token")

    loaded.batcher.submit(GenerationRequest((5, 6, 7), LONG), streaming)
    wait_until(lambda: first.tokens > 3)
    before = loaded.batcher.stats().prompt_tokens
    prompt = tuple(5 + index % 200 for index in range(320))
    long_one = Collector()

    def reading(event: Event) -> None:
        long_one(event)
        order.append("long prompt answered")

    order.append("long prompt sent")
    loaded.batcher.submit(GenerationRequest(prompt, SamplingParams(max_tokens=1, temperature=0)), reading)
    long_one.result(300)
    assert loaded.batcher.stats().prompt_tokens == before + 320
    between = order[order.index("long prompt sent") : order.index("long prompt answered")]
    # 320 tokens in chunks of 16 are 20 prefill steps, with a decode step between any two.
    assert between.count("token") >= 19


def test_full_queue_and_cancel(load: Load) -> None:
    engine = load(max_batch_size=2, max_queue_length=1).batcher
    recorders = [Recorder() for _ in range(3)]
    tickets = [engine.submit(GenerationRequest((5, 6, 7), LONG), recorder) for recorder in recorders]
    with pytest.raises(QueueFullError):
        engine.submit(GenerationRequest((5,), LONG), Recorder())
    wait_until(lambda: recorders[0].tokens > 0 and recorders[1].tokens > 0)
    assert engine.stats().queue_length == 1
    tickets[0].cancel()
    wait_until(lambda: recorders[2].tokens > 0)
    assert recorders[0].last is not None and recorders[0].last.finish_reason == "cancelled"
    tickets[1].cancel()
    tickets[2].cancel()
    wait_until(lambda: engine.stats().slots_in_use == 0)
    tickets[2].cancel()  # harmless


def test_requests_are_accepted_together_or_not_at_all(load: Load) -> None:
    engine = load(max_batch_size=2, max_queue_length=1).batcher
    request = GenerationRequest((5, 6, 7), SamplingParams(max_tokens=4, temperature=0, ignore_eos=True))
    reached, go_on = threading.Event(), threading.Event()

    def blocking(event: Event) -> None:
        """Hold the worker, so that the first request keeps its slot."""
        reached.set()
        go_on.wait(300)

    engine.submit(request, blocking)
    assert reached.wait(300)
    with pytest.raises(QueueFullError):
        engine.submit_all([(request, Recorder()) for _ in range(3)])
    with pytest.raises(TooManyRequestsError, match="4 answers at once; this server takes at most 3"):
        engine.submit_all([(request, Recorder()) for _ in range(4)])
    with pytest.raises(InvalidRequestError, match="token id") as caught:
        engine.submit_all([(request, Recorder()), (GenerationRequest((100_000,)), Recorder())])
    assert caught.value.index == 1
    assert engine.stats().queue_length == 0
    two = [Collector(), Collector()]
    engine.submit_all([(request, collector) for collector in two])
    assert engine.stats().queue_length == 2
    go_on.set()
    assert [len(collector.result(300).token_ids) for collector in two] == [4, 4]


def test_cancel_in_the_queue(load: Load) -> None:
    engine = load(max_batch_size=1, max_queue_length=4).batcher
    running, waiting = Recorder(), Recorder()
    ticket = engine.submit(GenerationRequest((5, 6, 7), LONG), running)
    wait_until(lambda: running.tokens > 0)
    engine.submit(GenerationRequest((5, 6, 7), LONG), waiting).cancel()
    assert waiting.last is not None and waiting.last.finish_reason == "cancelled"
    assert engine.stats().queue_length == 0
    ticket.cancel()


def test_limits_of_prompts(load: Load) -> None:
    engine = load(context_length=64).batcher
    with pytest.raises(PromptTooLongError, match="64 tokens and the context length is 64"):
        engine.submit(GenerationRequest((5,) * 64), Recorder())
    full = engine.generate(GenerationRequest((5,) * 60, SamplingParams(temperature=0, ignore_eos=True)), 30)
    assert (len(full.token_ids), full.finish_reason) == (4, "length")
    with pytest.raises(ValueError, match="no tokens"):
        engine.submit(GenerationRequest(()), Recorder())
    with pytest.raises(ValueError, match="outside 0 to 511"):
        engine.submit(GenerationRequest((512,)), Recorder())


def test_drain_finishes_what_was_taken(load: Load) -> None:
    engine = load(max_batch_size=1, max_queue_length=4).batcher
    collectors = [Collector(), Collector()]
    params = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True)
    for collector in collectors:
        engine.submit(GenerationRequest((5, 6, 7), params), collector)
    engine.start_draining()
    with pytest.raises(DrainingError):
        engine.submit(GenerationRequest((5,)), Recorder())
    assert engine.drain(60)
    assert [len(collector.result(1).token_ids) for collector in collectors] == [30, 30]


def test_a_dead_worker_answers_everybody(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    engine = load(max_batch_size=1, max_queue_length=4).batcher
    bystander = Collector()
    waiting = threading.Event()

    def broken(_: Event) -> None:
        waiting.wait(300)
        raise RuntimeError("sink broke")

    engine.submit(GenerationRequest((5, 6, 7), LONG), broken)
    engine.submit(GenerationRequest((5, 6, 7), LONG), bystander)
    waiting.set()
    with pytest.raises(EngineFailedError, match="sink broke"):
        bystander.result(300)
    wait_until(lambda: not engine.healthy)
    with pytest.raises(EngineFailedError):
        engine.submit(GenerationRequest((5,)), Recorder())


def test_close_ends_waiting_requests(load: Load) -> None:
    engine = load(max_batch_size=1, max_queue_length=4).batcher
    collectors = [Collector(), Collector()]
    for collector in collectors:
        engine.submit(GenerationRequest((5, 6, 7), LONG), collector)
    engine.close()
    for collector in collectors:
        with pytest.raises(EngineFailedError, match="shutting down"):
            collector.result(1)
