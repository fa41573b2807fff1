"""What is compared of a model: how many rows and positions, and how long the long row is."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.export.long_rows import BEYOND, MAX_THRESHOLD, long_row
from tunesmith_trainer.export.reference import MAX_ROW, MIN_TARGETS, _rows


def store(tmp_path: Path, rows: int, length: int, targets: int) -> TokenStore:
    mask = [0] * (length - targets) + [1] * targets
    return TokenStore.write(tmp_path / "store", [([5 + row % 90] * length, mask) for row in range(rows)])


def test_few_targets_take_more_rows(tmp_path: Path) -> None:
    found = _rows(store(tmp_path, 500, 20, 4), 16, 10**6)
    assert len(found) == MIN_TARGETS // 4
    assert sum(sum(row.is_target) for row in found) == MIN_TARGETS


def test_many_targets_take_the_rows_that_were_asked_for(tmp_path: Path) -> None:
    assert len(_rows(store(tmp_path, 500, 60, 50), 16, 10**6)) == 16


def test_without_any_target_every_token_with_one_after_it_counts(tmp_path: Path) -> None:
    (row,) = _rows(store(tmp_path, 1, 10, 0), 4, 10**6)
    assert row.is_target == [True] * 9 + [False]


def test_a_large_vocabulary_keeps_targets_before_other_positions(tmp_path: Path) -> None:
    (row,) = _rows(store(tmp_path, 1, 100, 10), 1, 14)
    assert len(row.positions) == 14
    assert row.positions == sorted(set(row.positions))
    assert set(range(89, 99)) <= set(row.positions), "a target is left out"
    assert sum(row.is_target) == 10


def test_a_row_is_compared_up_to_a_limit(tmp_path: Path) -> None:
    (row,) = _rows(store(tmp_path, 1, 2000, 100), 1, 10**6)
    assert len(row.ids) == len(row.positions) == MAX_ROW


@pytest.mark.parametrize(
    ("config", "threshold"),
    [
        ({}, None),
        ({"sliding_window": 64}, 64),
        ({"sliding_window": None}, None),
        ({"sliding_window": 64, "use_sliding_window": False}, None),
        ({"sliding_window": 64, "use_sliding_window": True}, 64),
        ({"sliding_window": 1000}, None),  # as long as the context: it never matters
        ({"original_max_position_embeddings": 128}, 128),
        ({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 100}}, 100),
        ({"rope_scaling": {"type": "longrope", "original_max_position_embeddings": 100}, "sliding_window": 64}, 100),
        ({"rope_parameters": {"full_attention": {"original_max_position_embeddings": 200}}}, 200),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}, None),
    ],
)
def test_the_long_row_is_longer_than_window_and_original_rope(
    tmp_path: Path, config: dict[str, Any], threshold: int | None
) -> None:
    found = long_row(SimpleNamespace(**config), store(tmp_path, 3, 7, 2), 1000)
    if threshold is None:
        assert found is None
    else:
        assert found is not None
        assert (found.threshold, len(found.ids)) == (threshold, threshold + BEYOND)


def test_the_long_row_repeats_the_rows_and_ends_with_the_context(tmp_path: Path) -> None:
    rows = store(tmp_path, 3, 7, 2)
    found = long_row(SimpleNamespace(sliding_window=64), rows, 100)
    assert found is not None
    assert found.ids == np.resize(rows.tokens, 100).tolist()


def test_a_threshold_beyond_the_limit_is_not_tried(tmp_path: Path) -> None:
    rows = store(tmp_path, 3, 7, 2)
    assert long_row(SimpleNamespace(sliding_window=MAX_THRESHOLD + 1), rows, 1 << 20) is None
    found = long_row(SimpleNamespace(sliding_window=64, original_max_position_embeddings=1 << 17), rows, 1 << 20)
    assert found is not None
    assert found.threshold == 64
