"""Many rows are sampled together, and each gets the token that it gets alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_serving.engines.text_generation.batching import sampling_rows
from tunesmith_serving.engines.text_generation.batching.sampling import UniformStream, draw, is_greedy, make_generator
from tunesmith_serving.engines.text_generation.batching.sampling_rows import sample_rows
from tunesmith_serving.engines.text_generation.batching.types import SamplingParams

OPTIONS: list[dict[str, Any]] = [
    {"temperature": 0},
    {},
    {"temperature": 0.3},
    {"temperature": 1e-4},
    {"temperature": 1.7, "min_p": 0.02},
    {"min_p": 1.0},
    {"top_k": 1},
    {"top_k": 7, "temperature": 2.0},
    {"top_k": 50, "top_p": 0.7},
    {"top_k": 400, "top_p": 0.95, "min_p": 0.01},
    {"top_k": 5000},
    {"top_p": 0.9},
    {"top_p": 0.5, "temperature": 0.5},
    {"top_p": 0.99, "min_p": 0.03},
    {"top_p": 0.9999, "temperature": 3.0},
]


def alone(logits: np.ndarray, params: list[SamplingParams], uniforms: np.ndarray) -> list[int]:
    return [
        int(row.argmax()) if is_greedy(each) else draw(row, each, float(uniform))
        for row, each, uniform in zip(logits, params, uniforms, strict=True)
    ]


@pytest.mark.parametrize("vocabulary", [3, 256, 700, 3000])
@pytest.mark.parametrize("spread", [0.0, 1.0, 4.0])
def test_rows_get_the_tokens_that_they_get_alone(vocabulary: int, spread: float) -> None:
    rng = np.random.default_rng(vocabulary)
    for _ in range(20):
        rows = int(rng.integers(1, 40))
        # Rounded, so that some are equal.
        logits = (rng.normal(0, 1, (rows, vocabulary)) * spread).round(1).astype(np.float32)
        params = [SamplingParams(**OPTIONS[rng.integers(len(OPTIONS))]) for _ in range(rows)]
        uniforms = rng.random(rows)
        assert sample_rows(logits, params, uniforms).tolist() == alone(logits, params, uniforms)


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from([-np.inf, -80.0, -3.5, 0.0, 1.0, 1.5, 60.0]), min_size=6, max_size=6).filter(
                lambda row: max(row) > -np.inf
            ),
            st.sampled_from(OPTIONS),
            st.floats(0, 1, exclude_max=True),
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(deadline=None, max_examples=60)
def test_impossible_tokens_are_never_taken(rows: list[tuple[list[float], dict[str, Any], float]]) -> None:
    logits = np.asarray([row for row, _, _ in rows], np.float32)
    params, uniforms = [SamplingParams(**options) for _, options, _ in rows], np.asarray([each for _, _, each in rows])
    tokens = sample_rows(logits, params, uniforms)
    assert np.isfinite(logits[np.arange(len(rows)), tokens]).all()
    assert tokens.tolist() == alone(logits, params, uniforms)


def test_rows_without_filters_are_not_computed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (8, 20_000)).astype(np.float32)
    logits[:, :30] += 12
    params = [
        SamplingParams(**options) for options in ({}, {"temperature": 0.5}, {"temperature": 0}, {"temperature": 2})
    ] * 2
    expected = alone(logits, params, uniforms := rng.random(8))

    def refuse(*_: object) -> int:
        raise AssertionError("a row is computed on its own")

    monkeypatch.setattr(sampling_rows, "draw", refuse)
    assert sample_rows(logits, params, uniforms).tolist() == expected


def test_numbers_that_were_looked_at_come_again() -> None:
    stream, numbers = UniformStream(7), make_generator(7).random(10).tolist()
    assert stream.random() == numbers[0]
    assert stream.peek(3) == numbers[1:4]
    assert stream.peek(2) == numbers[1:3]
    stream.take(2)
    assert stream.random() == numbers[3]
    assert stream.peek(1) == numbers[4:5]
    assert [stream.random() for _ in range(6)] == numbers[4:10]
