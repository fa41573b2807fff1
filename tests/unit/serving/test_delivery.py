"""An event loop is woken once for the events of a step, however many requests they belong to."""

import asyncio
import threading
from collections.abc import Sequence as Items

import pytest

from tunesmith_serving.engines.text_generation.batching.bridge import Bridge
from tunesmith_serving.engines.text_generation.batching.delivery import Delivery
from tunesmith_serving.engines.text_generation.batching.sequence import Sequence
from tunesmith_serving.engines.text_generation.batching.types import (
    BatcherStats,
    Event,
    EventSink,
    GenerationRequest,
    SamplingParams,
    Ticket,
)


class Letters:
    def decode(self, ids: Items[int]) -> str:
        return "".join("abcd"[token] for token in ids)


class HandBatcher:
    """Takes requests, and delivers what the test lets them have."""

    context_length = 64

    def __init__(self) -> None:
        self.sequences: list[Sequence] = []

    def submit(self, request: GenerationRequest, sink: EventSink) -> Ticket:
        return self.submit_all([(request, sink)])[0]

    def submit_all(self, requests: Items[tuple[GenerationRequest, EventSink]]) -> list[Ticket]:
        for request, sink in requests:
            self.sequences.append(Sequence(request, sink, Letters(), frozenset(), 64, lambda _: None))
        return list[Ticket](self.sequences[-len(requests) :])

    def stats(self) -> BatcherStats:
        raise NotImplementedError


def test_one_wake_up_a_step() -> None:
    import numpy as np

    async def run() -> tuple[int, list[str]]:
        batcher, wakes = HandBatcher(), 0
        loop = asyncio.get_running_loop()
        schedule = loop.call_soon_threadsafe

        def count(*arguments: object, **options: object) -> object:
            nonlocal wakes
            wakes += 1
            return schedule(*arguments, **options)  # type: ignore[arg-type]

        loop.call_soon_threadsafe = count  # type: ignore[method-assign, assignment]
        bridge = Bridge(batcher)
        request = GenerationRequest((0,), SamplingParams(temperature=0, max_tokens=3))
        generations = [bridge.submit([request, request]) for _ in range(8)]
        delivery = Delivery()

        async def read(generation: object) -> str:
            pieces: list[tuple[int, Event]] = []
            async for events in generation.batches():  # type: ignore[attr-defined]
                pieces += events
            return "".join(event.text for index, event in pieces if index == 1)

        def work() -> None:
            for step in range(3):
                for sequence in batcher.sequences:
                    sequence.accept(np.eye(4, dtype=np.float32)[step])
                delivery.add(batcher.sequences)
                delivery.flush()
                delivery.flush()  # nothing is left

        readers = [asyncio.create_task(read(generation)) for generation in generations]
        thread = threading.Thread(target=work)
        thread.start()
        texts = await asyncio.gather(*readers)
        thread.join()
        loop.call_soon_threadsafe = schedule  # type: ignore[method-assign]
        return wakes, texts

    wakes, texts = asyncio.run(run())
    assert texts == ["abc"] * 8
    assert 1 <= wakes <= 3


def test_a_sink_that_raises_takes_no_events_of_others() -> None:
    import numpy as np

    def broken(event: Event) -> None:
        raise OSError("broken")

    found: list[list[Event]] = [[], []]
    request = GenerationRequest((0,), SamplingParams(temperature=0, max_tokens=1))
    batcher, delivery = HandBatcher(), Delivery()
    batcher.submit_all([(request, found[0].append), (request, broken), (request, found[1].append)])
    for sequence in batcher.sequences:
        sequence.accept(np.eye(4, dtype=np.float32)[0])
    delivery.add(batcher.sequences)
    with pytest.raises(OSError, match="broken"):
        delivery.flush()
    delivery.flush_all()  # what the batcher does when its worker ends
    assert [[event.text for event in events] for events in found] == [["a"], ["a"]]


def test_an_event_outside_of_a_step_wakes_at_once() -> None:
    async def run() -> str | None:
        batcher = HandBatcher()
        generation = Bridge(batcher).submit([GenerationRequest((0,), SamplingParams())])
        threading.Thread(target=batcher.sequences[0].end_cancelled).start()
        async with asyncio.timeout(300):
            return [event.finish_reason async for events in generation.batches() for _, event in events][-1]

    assert asyncio.run(run()) == "cancelled"
