"""Which rows are computed together."""

import asyncio
import random
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tunesmith_serving.engines.base import EngineFailedError
from tunesmith_serving.engines.one_pass.batching.batcher import Batcher
from tunesmith_serving.engines.one_pass.batching.queue import CHEAP_PADDING, LARGEST_PADDING, FairQueue
from tunesmith_serving.engines.one_pass.batching.rows import Job, Row
from tunesmith_serving.engines.one_pass.engine import OnePassEngine
from tunesmith_serving.engines.one_pass.tasks.base import Prepared
from tunesmith_serving.engines.predictor import DrainingError, ModelCard, QueueFullError, TooManyInputsError


def a_row(length: int) -> Row:
    return Row([1] * length, [0] * length)


def a_job(*lengths: int) -> Job:
    return Job([[a_row(length)] for length in lengths], lambda job: None)


def test_batches_are_bounded_and_every_row_is_computed_once() -> None:
    chance = random.Random(1)
    for _ in range(300):
        most_rows, most_tokens = chance.randint(1, 12), chance.randint(40, 600)
        queue = FairQueue(most_rows, most_tokens)
        jobs = [a_job(*(chance.randint(1, 200) for _ in range(chance.randint(1, 9)))) for _ in range(8)]
        for job in jobs:
            queue.add(job)
        seen = []
        while queue:
            batch = queue.take()
            lengths = [len(job.row(place)) for job, place in batch]
            padded = len(lengths) * max(lengths)
            assert 1 <= len(batch) <= most_rows
            assert len(batch) == 1 or padded <= most_tokens
            assert padded - sum(lengths) <= max(CHEAP_PADDING, padded * LARGEST_PADDING)
            seen += [(id(job), place) for job, place in batch]
        assert sorted(seen) == sorted((id(job), (index, 0)) for job in jobs for index in range(len(job.inputs)))


def test_a_request_of_many_inputs_leaves_room_for_others() -> None:
    queue = FairQueue(4, 1000)
    many, one = a_job(*[10] * 50), a_job(10)
    queue.add(many)
    assert [job for job, _ in queue.take()] == [many] * 4
    queue.add(one)
    assert one in [job for job, _ in queue.take()]
    queue.add(other := a_job(500))  # of a length of its own: its turn comes nevertheless
    batches = [queue.take() for _ in range(3)]
    assert [(other, (0, 0))] in batches


class Model:
    """Outputs the length of each row; can be held up, and cannot compute rows of 13 tokens."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Semaphore(0)

    def run(self, rows: Sequence[Row]) -> list[Any]:
        self.entered.release()
        self.go.wait(300)
        self.batches.append([len(row) for row in rows])
        if any(len(row) == 13 for row in rows):
            raise RuntimeError("thirteen")
        return [{"logits": np.array([len(row)], np.float32)} for row in rows]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def batcher(model: Model) -> Any:
    made = Batcher(model, max_batch_size=4, max_queue_length=6, max_batch_tokens=1000)
    yield made
    model.go.set()
    made.close()


def test_what_waits_is_computed_together_and_goes_to_its_request(model: Model, batcher: Batcher) -> None:
    model.go.clear()
    done = threading.Semaphore(0)
    first = batcher.submit([[a_row(3)]], lambda job: done.release())
    model.entered.acquire(timeout=300)
    jobs = [batcher.submit([[a_row(5), a_row(6)], [a_row(7)]], lambda job: done.release()) for _ in range(2)]
    assert batcher.stats().inputs_open == 5
    model.go.set()
    for _ in range(3):
        assert done.acquire(timeout=300)
    assert model.batches[0] == [3] and [len(batch) for batch in model.batches[1:]] == [4, 2]
    assert float(first.outputs[0][0]["logits"][0]) == 3
    for job in jobs:
        assert [[float(out["logits"][0]) for out in outs] for outs in job.outputs] == [[5, 6], [7]]
    stats = batcher.stats()
    assert (stats.inputs_open, stats.rows, stats.tokens, stats.batches) == (0, 7, 39, 3)


def test_a_full_queue_refuses_and_a_cancelled_request_frees_it(model: Model, batcher: Batcher) -> None:
    model.go.clear()
    called: list[Job] = []
    running = batcher.submit([[a_row(3)]], called.append)
    model.entered.acquire(timeout=300)
    waiting = batcher.submit([[a_row(3)]] * 9, called.append)
    with pytest.raises(QueueFullError) as caught:
        batcher.submit([[a_row(3)]], called.append)
    assert caught.value.retry_after >= 1
    with pytest.raises(TooManyInputsError, match="11 inputs in one request; this server takes at most 10"):
        batcher.submit([[a_row(3)]] * 11, called.append)
    batcher.cancel(waiting)
    batcher.cancel(running)
    assert batcher.stats().inputs_open == 0
    model.go.set()
    assert batcher.compute([[a_row(4)]] * 10, timeout=300)
    assert called == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_row_that_cannot_be_computed_fails_alone(model: Model, batcher: Batcher) -> None:
    model.go.clear()
    done: list[Job] = []
    batcher.submit([[a_row(3)]], done.append)
    model.entered.acquire(timeout=300)
    good = batcher.submit([[a_row(12)]], done.append)
    bad = batcher.submit([[a_row(13)]], done.append)
    model.go.set()
    assert batcher.compute([[a_row(12)]], timeout=300)
    assert good.error is None and "thirteen" in (bad.error or "")
    assert batcher.healthy
    for _ in range(3):
        with pytest.raises(EngineFailedError):
            batcher.compute([[a_row(13)]], timeout=300)
    batcher._thread.join(300)
    assert not batcher.healthy
    with pytest.raises(EngineFailedError):
        batcher.submit([[a_row(1)]], done.append)


def test_draining_finishes_what_was_accepted_and_closing_ends_it(model: Model) -> None:
    batcher = Batcher(model, 1, 5, 100)
    model.go.clear()
    done: list[Job] = []
    batcher.submit([[a_row(2)]], done.append)
    model.entered.acquire(timeout=300)
    batcher.submit([[a_row(3)]], done.append)
    batcher.start_draining()
    with pytest.raises(DrainingError):
        batcher.submit([[a_row(4)]], done.append)
    closer = threading.Thread(target=batcher.close)
    closer.start()
    model.go.set()
    closer.join(300)
    assert batcher.healthy
    assert sorted(job.error or "" for job in done) == ["", "the server is shutting down"]


def test_inputs_of_a_request_that_is_cancelled_are_dropped(model: Model, batcher: Batcher) -> None:
    class Task:
        parse = staticmethod(lambda parameters: parameters)
        prepare = staticmethod(lambda value, parameters: Prepared([a_row(value)]))
        answer = staticmethod(lambda prepared, outputs, parameters: float(outputs[0]["logits"][0]))

    async def run() -> list[float]:
        engine = OnePassEngine(ModelCard("toy", "fp32", 64, 4, 6), Task(), batcher)  # type: ignore[arg-type]
        model.go.clear()
        running = asyncio.create_task(engine.predict([5], {}))
        await asyncio.to_thread(model.entered.acquire)
        left = [asyncio.create_task(engine.predict([6, 7, 8], {})) for _ in range(3)]
        await asyncio.sleep(0)
        assert batcher.stats().inputs_open == 10
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        assert batcher.stats().inputs_open == 1
        model.go.set()
        return await running

    assert asyncio.run(run()) == [5]
    assert model.batches == [[5]]
