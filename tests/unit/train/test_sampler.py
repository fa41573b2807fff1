"""The order of rows: every row once an epoch, like lengths together, nothing depends on the number of processes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_trainer.train.sampler import training_order


def lengths_of(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(10, 500, rows)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 300), batch=st.integers(1, 40), steps=st.integers(1, 80), seed=st.integers(0, 5))
def test_each_row_comes_up_equally_often(rows: int, batch: int, steps: int, seed: int) -> None:
    order = training_order(lengths_of(rows), batch, steps, seed)
    assert len(order) == steps * batch
    counts = np.bincount(order, minlength=rows)
    assert counts.max() - counts.min() <= 1
    assert counts.sum() == steps * batch


def test_an_epoch_of_whole_batches_has_every_row_once() -> None:
    order = training_order(lengths_of(320), 16, 60, seed=7)
    for epoch in range(3):
        assert sorted(order[epoch * 320 : (epoch + 1) * 320]) == list(range(320))


def test_epochs_are_in_different_orders_and_seeds_too() -> None:
    order = training_order(lengths_of(320), 16, 40, seed=7)
    assert (order[:320] != order[320:]).any()
    assert (order != training_order(lengths_of(320), 16, 40, seed=8)).any()
    assert (order == training_order(lengths_of(320), 16, 40, seed=7)).all()


def test_rows_of_a_batch_are_about_equally_long_and_batches_are_not_in_order_of_length() -> None:
    lengths = lengths_of(4000)
    batches = lengths[training_order(lengths, 16, 250, seed=0)].reshape(-1, 16)
    assert np.median(batches.max(axis=1) - batches.min(axis=1)) <= 12
    padded = batches.max(axis=1).sum() * 16
    assert lengths.sum() / padded > 0.97
    means = batches.mean(axis=1)
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.2


@pytest.mark.parametrize("micro", [1, 2, 4])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_what_the_processes_get_in_a_step_is_the_global_batch(world: int, micro: int) -> None:
    from accelerate.data_loader import BatchSamplerShard
    from torch.utils.data import BatchSampler, SequentialSampler

    order = training_order(lengths_of(100), 16, 10, seed=3)
    shards = [
        list(BatchSamplerShard(BatchSampler(SequentialSampler(order), micro, False), world, rank))
        for rank in range(world)
    ]
    accumulated = 16 // world // micro
    for step in range(10):
        got = [
            order[index]
            for shard in shards
            for batch in shard[step * accumulated : (step + 1) * accumulated]
            for index in batch
        ]
        assert sorted(got) == sorted(order[step * 16 : (step + 1) * 16])
