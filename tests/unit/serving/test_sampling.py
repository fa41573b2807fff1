import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith_serving.engines.text_generation.batching.sampling import largest, make_generator, sample, token_logprob
from tunesmith_serving.engines.text_generation.batching.types import SamplingParams


def row(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def frequencies(logits: np.ndarray, draws: int = 20_000, **options: float) -> np.ndarray:
    rng = make_generator(0)
    params = SamplingParams(**options)  # type: ignore[arg-type]
    counts = np.bincount([sample(logits, params, rng) for _ in range(draws)], minlength=len(logits))
    return counts / draws


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


def test_greedy() -> None:
    logits = row(0.1, 3, 2.9)
    assert sample(logits, SamplingParams(temperature=0), make_generator(None)) == 1
    assert sample(logits, SamplingParams(temperature=1e-30), make_generator(None)) == 1


def test_distribution_follows_temperature() -> None:
    logits = row(0, 1, 2, -1)
    np.testing.assert_allclose(frequencies(logits), softmax(logits), atol=0.015)
    np.testing.assert_allclose(frequencies(logits, temperature=2), softmax(logits / 2), atol=0.015)


def test_top_p_keeps_the_smallest_set() -> None:
    logits = np.log(row(0.5, 0.3, 0.15, 0.05))
    assert (frequencies(logits, 3000, top_p=0.5) > 0).tolist() == [True, False, False, False]
    np.testing.assert_allclose(frequencies(logits, top_p=0.75), [0.625, 0.375, 0, 0], atol=0.015)
    assert (frequencies(logits, 3000, top_p=0.81) > 0).tolist() == [True, True, True, False]


def test_top_p_beyond_the_first_candidates() -> None:
    logits = np.zeros(5000, np.float32)
    seen = {sample(logits, SamplingParams(top_p=0.9), rng) for rng in map(make_generator, range(4000))}
    assert len(seen) > 2000
    assert max(seen) < 4501


@given(st.integers(-(2**63), 2**63 - 1))
def test_same_seed_same_tokens(seed: int) -> None:
    logits = np.linspace(0, 3, 100, dtype=np.float32)
    params = SamplingParams(top_p=0.95)
    first, second = make_generator(seed), make_generator(seed)
    assert [sample(logits, params, first) for _ in range(5)] == [sample(logits, params, second) for _ in range(5)]


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=400), st.integers(0, 99), st.floats(0.01, 1))
def test_any_logits_give_a_token(values: list[float], seed: int, top_p: float) -> None:
    assert 0 <= sample(row(*values), SamplingParams(top_p=top_p), make_generator(seed)) < len(values)


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=60), st.integers(1, 20))
def test_largest_agrees_with_sorting(values: list[float], count: int) -> None:
    got = largest(row(*values), count)
    assert [values[index] for index in got] == sorted(values, reverse=True)[:count]


def test_logprobs() -> None:
    logits = row(1, 2, 3)
    entry = token_logprob(logits, 1, 2)
    expected = np.log(softmax(logits))
    assert entry.logprob == pytest.approx(expected[1])
    assert [index for index, _ in entry.top] == [2, 1]
    assert entry.top[0][1] == pytest.approx(expected[2])
    assert token_logprob(logits, 0, 0).top == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 1.1}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"presence_penalty": float("nan")}, "presence_penalty"),
        ({"frequency_penalty": float("inf")}, "frequency_penalty"),
        ({"logit_bias": ((1, float("nan")),)}, "logit_bias"),
        ({"stop": ("",)}, "stop"),
        ({"logprobs": 21}, "logprobs"),
    ],
)
def test_senseless_parameters(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingParams(**options)  # type: ignore[arg-type]
