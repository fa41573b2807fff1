from hypothesis import given
from hypothesis import strategies as st

from tunesmith_trainer.evaluate.batches import length_bucketed_batches


def test_rows_of_similar_length_share_a_batch() -> None:
    assert length_bucketed_batches([3, 50, 4, 49, 5], max_rows=2, max_tokens=1000) == [[1, 3], [4, 2], [0]]


def test_a_row_longer_than_the_budget_is_alone() -> None:
    assert length_bucketed_batches([100, 10, 10], max_rows=8, max_tokens=20) == [[0], [1, 2]]


@given(st.lists(st.integers(0, 200)), st.integers(1, 9), st.integers(1, 500))
def test_every_row_is_in_one_batch_within_bounds(lengths: list[int], max_rows: int, max_tokens: int) -> None:
    batches = length_bucketed_batches(lengths, max_rows, max_tokens)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 0 < len(batch) <= max_rows
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max_tokens
