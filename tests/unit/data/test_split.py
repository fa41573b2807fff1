"""Each class gives its share of the rows that are kept for validation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_trainer.prepare import split
from tunesmith_trainer.prepare.split import held_out_rows

SETTINGS = settings(max_examples=300, deadline=None, derandomize=True, database=None)
STRATA = st.lists(st.integers(0, 6), min_size=2, max_size=200).filter(lambda rows: len(set(rows)) < len(rows))


def kept(strata: list[int], fraction: float, seed: int = 0) -> np.ndarray:
    held_out = held_out_rows(len(strata), fraction, seed, np.array(strata, np.int32))
    assert len(held_out) == int(held_out.mask(0, len(strata)).sum())
    return held_out.mask(0, len(strata))


@SETTINGS
@given(STRATA, st.floats(0.01, 0.9))
def test_each_class_gives_its_share(strata: list[int], fraction: float) -> None:
    classes, mask = np.array(strata), kept(strata, fraction)
    total = min(max(1, round(len(strata) * fraction)), len(strata) - 1)
    spare = sum(strata.count(name) - 1 for name in set(strata))
    assert 1 <= mask.sum() <= total
    for name in set(strata):
        rows, given_rows = strata.count(name), int(mask[classes == name].sum())
        exact = rows * total / len(strata)
        assert given_rows < rows  # one stays in training
        assert exact - 1 < given_rows < exact + 1 or given_rows == rows - 1
    # No row too few, unless all but one of a class are taken.
    capped = any(strata.count(name) - 1 < strata.count(name) * total / len(strata) for name in set(strata))
    assert mask.sum() == total or capped or spare < total


@pytest.mark.parametrize("block", [7, 64, 1000])
def test_blocks_give_the_same_shares(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    strata = np.random.default_rng(1).choice(5, 1000, p=[0.5, 0.3, 0.1, 0.07, 0.03]).tolist()
    whole = kept(strata, 0.1)
    monkeypatch.setattr(split, "_BLOCK", block)
    mask, classes = kept(strata, 0.1), np.array(strata)
    assert np.bincount(classes[mask]).tolist() == np.bincount(classes[whole]).tolist()
    assert mask.sum() == 100
    thirds = [int(mask[start : start + 333].sum()) for start in (0, 333, 666)]
    assert min(thirds) >= 20  # rows come from all over the data


def test_the_seed_decides() -> None:
    strata = [0, 1] * 50
    assert (kept(strata, 0.2, 1) == kept(strata, 0.2, 1)).all()
    assert (kept(strata, 0.2, 1) != kept(strata, 0.2, 2)).any()


def test_many_small_classes_share_by_chance() -> None:
    strata = [name for name in range(1000) for _ in range(10)]
    mask = kept(strata, 0.05)
    given_rows = np.bincount(np.array(strata)[mask], minlength=1000)
    assert mask.sum() == 500
    assert set(given_rows.tolist()) == {0, 1}
    assert 150 < given_rows[:500].sum() < 350  # and not the first ones
