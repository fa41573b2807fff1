"""Packs: every row once, the same number on all processes, within the budget; what a pack looks like as tensors."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_api.choices.speed import bucket
from tunesmith_trainer.data.packing import PackCollator, PackedDataset, pack_step
from tunesmith_trainer.data.targets import IGNORE_INDEX
from tunesmith_trainer.data.token_store import Example, TokenStore


def row(*ids: int, learned: int = 1) -> Example:
    return np.array(ids, np.int32), np.array([0] * (len(ids) - learned) + [1] * learned, np.uint8)


@settings(max_examples=200, deadline=None)
@given(
    processes=st.integers(1, 5),
    most=st.integers(1, 6),
    micro=st.integers(1, 4),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_rows_are_shared_evenly_within_the_budget(
    processes: int, most: int, micro: int, seed: int, data: st.DataObject
):
    count = processes * most * micro
    longest = data.draw(st.integers(1, 400))
    lengths = sorted(np.random.default_rng(seed).integers(1, longest + 1, count).tolist())
    packs = pack_step(lengths, processes, micro * longest, most)
    assert len(packs) == processes
    assert len({len(mine) for mine in packs}) == 1
    assert 1 <= len(packs[0]) <= most
    assert sorted(row for mine in packs for pack in mine for row in pack) == list(range(count))
    sizes = [[sum(lengths[row] for row in pack) for pack in mine] for mine in packs]
    assert all(0 < size <= micro * longest for mine in sizes for size in mine)
    assert packs == pack_step(lengths, processes, micro * longest, most)


def test_there_are_no_more_packs_than_needed() -> None:
    lengths = [10] * 28 + [100] * 4
    assert [len(mine) for mine in pack_step(lengths, 1, 800, 4)] == [1]
    assert [len(mine) for mine in pack_step(lengths, 2, 800, 2)] == [1, 1]
    assert [len(mine) for mine in pack_step(lengths, 1, 400, 8)] == [2]
    assert [len(mine) for mine in pack_step([100] * 32, 1, 800, 4)] == [4]


def test_processes_compute_about_the_same_at_the_same_time() -> None:
    lengths = sorted(np.random.default_rng(3).integers(10, 500, 64).tolist())
    packs = pack_step(lengths, 4, 2000, 8)
    sizes = np.array([[sum(lengths[row] for row in pack) for pack in mine] for mine in packs])
    assert (np.ptp(sizes, axis=0) < 0.1 * sizes.mean()).all()
    assert np.ptp(sizes.sum(axis=1)) < 0.02 * sizes.sum(axis=1).mean()


def test_a_dataset_has_the_packs_of_each_process(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [row(*[number] * int(random.integers(2, 30))) for number in range(48)]
    store = TokenStore.write(tmp_path, [(ids.tolist(), mask.tolist()) for ids, mask in rows])
    order = np.concatenate([np.arange(32), np.arange(16, 48)])
    packed = PackedDataset(store, order, processes=2, most=2, micro_batch_size=4)
    assert len(packed) == 4 * 2
    for step in range(4):
        mine = [packed[step * 2 + rank] for rank in range(2)]
        got = [int(ids[0]) for packs in mine for pack in packs for ids, _ in pack]
        assert sorted(got) == sorted(order[step * 16 : step * 16 + 16])


def test_a_pack_as_tensors() -> None:
    (batch,) = PackCollator(targets=True)([[[row(5, 6, 7, learned=2), row(8, 9, learned=2), row(3)]]])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 3]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 3, 5, 6]
    assert batch["max_length_q"] == 3
    assert batch["logits_to_keep"].tolist() == [0, 1, 3]
    assert batch["labels"].tolist() == batch["targets"].tolist() == [[6, 7, 9]]


def test_what_a_pack_is_filled_up_with_is_a_row_of_its_own_that_is_not_learned() -> None:
    (batch,) = PackCollator(lambda _: 8, targets=False)([[[row(5, 6, 7, learned=2), row(8, 9)]]])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1, 2]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 3, 5, 8]
    assert batch["labels"].tolist() == [[6, 7, 9]]
    assert "targets" not in batch


def test_a_pack_without_targets_keeps_one_position() -> None:
    (batch,) = PackCollator(targets=False)([[[row(5, 6, learned=0)]]])
    assert batch["logits_to_keep"].tolist() == [0]
    assert batch["labels"].tolist() == [[IGNORE_INDEX]]


@pytest.mark.parametrize(("tokens", "length"), [(1, 8), (8, 8), (500, 504), (513, 528), (4097, 4224), (8192, 8192)])
def test_lengths_of_packs(tokens: int, length: int) -> None:
    assert bucket(tokens) == length


def test_lengths_of_packs_repeat() -> None:
    lengths = {bucket(tokens) for tokens in range(4096, 8193)}
    assert len(lengths) <= 33
    assert all(0 <= bucket(tokens) - tokens <= max(7, tokens / 32) for tokens in range(1, 20_000))
