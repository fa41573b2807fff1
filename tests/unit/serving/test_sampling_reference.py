"""Sampling against the logits processors of transformers, which define what the parameters mean."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tunesmith_serving.engines.text_generation.batching.adjust import LogitsAdjuster
from tunesmith_serving.engines.text_generation.batching.sampling import candidates, derive_seed, make_generator, sample
from tunesmith_serving.engines.text_generation.batching.types import SamplingParams

VOCABULARY = 600  # more than the first candidates that top_p tries


def probabilities(logits: np.ndarray, params: SamplingParams) -> np.ndarray:
    """The distribution that `sample` draws from."""
    weights = np.exp((logits - logits.max()) / np.float32(params.temperature))
    kept = candidates(logits, weights, params)
    out = np.zeros(len(logits))
    ids = np.arange(len(logits)) if kept is None else kept
    assert len(set(ids.tolist())) == len(ids)
    out[ids] = weights[ids] / weights[ids].sum(dtype=np.float64)
    return out


def reference(logits: np.ndarray, params: SamplingParams) -> np.ndarray:
    """transformers' distribution, with its warpers in the order in which `generate` applies them."""
    warpers: list[Any] = [TemperatureLogitsWarper(float(params.temperature))]
    if params.top_k:
        warpers.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        warpers.append(TopPLogitsWarper(params.top_p))
    if params.min_p:
        warpers.append(MinPLogitsWarper(params.min_p))
    # In double precision, so that its cumulative sums are not less exact than ours.
    scores = LogitsProcessorList(warpers)(torch.zeros(1, 1, dtype=torch.long), torch.from_numpy(logits[None]).double())
    return scores.softmax(-1)[0].numpy()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 1},
        {"top_k": 7},
        {"top_k": VOCABULARY + 5},
        {"min_p": 0.02},
        {"min_p": 1.0},
        {"top_p": 0.83},
        {"top_p": 0.9999},
        {"top_k": 50, "top_p": 0.7},
        {"top_k": 20, "min_p": 0.1},
        {"top_p": 0.9, "min_p": 0.03},
        {"top_k": 40, "top_p": 0.95, "min_p": 0.01},
    ],
    ids=str,
)
def test_filters_keep_what_transformers_keeps(options: dict[str, Any], temperature: float) -> None:
    for seed in range(20):
        logits = np.random.default_rng(seed).normal(0, 2, VOCABULARY).astype(np.float32)
        params = SamplingParams(temperature=temperature, **options)
        np.testing.assert_allclose(probabilities(logits, params), reference(logits, params), atol=1e-6)


def test_top_k_keeps_ties_as_transformers_does() -> None:
    logits = np.array([1, 3, 2, 2, 2, -1], np.float32)
    params = SamplingParams(top_k=2)
    assert (probabilities(logits, params) > 0).tolist() == [False, True, True, True, True, False]
    np.testing.assert_allclose(probabilities(logits, params), reference(logits, params), atol=1e-6)


def test_samples_follow_the_filtered_distribution() -> None:
    logits = np.random.default_rng(1).normal(0, 1.5, 30).astype(np.float32)
    params = SamplingParams(top_k=8, top_p=0.9, min_p=0.05)
    rng = make_generator(0)
    counts = np.bincount([sample(logits, params, rng) for _ in range(20_000)], minlength=30)
    np.testing.assert_allclose(counts / 20_000, reference(logits, params), atol=0.015)


@pytest.mark.parametrize("penalty", [1.3, 0.7, 2.0])
def test_repetition_penalty_is_that_of_transformers(penalty: float) -> None:
    prompt, answer = [3, 5, 5, 11, 40], [11, 7, 7, 7, 59]
    logits = np.random.default_rng(2).normal(0, 3, 64).astype(np.float32)
    adjust = LogitsAdjuster(SamplingParams(repetition_penalty=penalty), prompt)
    for token in answer:
        adjust.add(token)
    before = logits.copy()
    ids = torch.tensor([prompt + answer])
    expected = RepetitionPenaltyLogitsProcessor(penalty)(ids, torch.from_numpy(logits.copy()[None]))[0].numpy()
    np.testing.assert_allclose(adjust.apply(logits), expected, rtol=1e-6)
    assert (adjust.apply(logits) != logits).sum() == len(set(prompt + answer))
    np.testing.assert_array_equal(logits, before)


def test_presence_and_frequency_penalties_follow_openai() -> None:
    """mu[j] - c[j] * frequency - (c[j] > 0) * presence, with the counts of the answer alone."""
    logits = np.random.default_rng(3).normal(0, 3, 16).astype(np.float32)
    adjust = LogitsAdjuster(SamplingParams(presence_penalty=0.7, frequency_penalty=-0.4), [1, 2, 2])
    np.testing.assert_array_equal(adjust.apply(logits), logits)
    for token in [4, 9, 4, 4]:
        adjust.add(token)
    expected = logits.astype(np.float64)
    expected[4] += 3 * 0.4 - 0.7
    expected[9] += 0.4 - 0.7
    np.testing.assert_allclose(adjust.apply(logits), expected, rtol=1e-6)


def test_logit_bias_is_added_before_the_repetition_penalty() -> None:
    logits = np.array([1.0, -2.0, 0.5], np.float32)
    adjust = LogitsAdjuster(SamplingParams(logit_bias=((0, -3.0), (2, 100.0)), repetition_penalty=2.0), [0])
    np.testing.assert_allclose(adjust.apply(logits), [-4.0, -2.0, 100.5])


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=300),
    st.integers(0, 400),
    st.floats(0.01, 1),
    st.floats(0, 1),
    st.integers(0, 99),
)
@settings(deadline=None)
def test_any_filters_leave_the_most_likely_token(
    values: list[float], top_k: int, top_p: float, min_p: float, seed: int
) -> None:
    logits = np.array(values, np.float32)
    params = SamplingParams(top_k=top_k, top_p=top_p, min_p=min_p)
    weights = np.exp(logits - logits.max())
    assert weights[probabilities(logits, params).argmax()] == weights.max()  # several logits may have one weight
    assert 0 <= sample(logits, params, make_generator(seed)) < len(values)


def test_seeds_of_several_answers() -> None:
    seeds = [derive_seed(5, index) for index in range(50)]
    assert seeds[0] == 5
    assert len(set(seeds)) == 50
    assert seeds == [derive_seed(5, index) for index in range(50)]
    assert seeds[1] != derive_seed(6, 1)
    assert derive_seed(None, 3) is None
