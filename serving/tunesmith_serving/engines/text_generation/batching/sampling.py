"""Sampling the next token from one row of logits, in numpy."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tunesmith_serving.engines.text_generation.batching.types import SamplingParams, TokenLogprob

Row = npt.NDArray[np.float32]

# Below this, dividing by the temperature overflows float32 and the distribution is a single token anyway.
GREEDY_TEMPERATURE = 1e-5
# Number of candidates tried first for top_p: nearly always enough, and far cheaper than sorting the vocabulary.
FIRST_CANDIDATES = 256


class Uniform(Protocol):
    """Where random numbers come from."""

    def random(self) -> float:
        """Return the next number from 0 to 1."""


def make_generator(seed: int | None) -> np.random.Generator:
    """Return a request's own random generator, so that its draws do not depend on other requests."""
    return np.random.Generator(np.random.PCG64(None if seed is None else seed % 2**64))


class UniformStream:
    """The random numbers of one request, one for each token of its answer.

    Drafts are checked with the numbers of the tokens that they stand for: those of rejected drafts are used again. So
    the same seed gives the same answer whatever is drafted.
    """

    def __init__(self, seed: int | None) -> None:
        self._rng = make_generator(seed)
        self._ahead: list[float] = []

    def random(self) -> float:
        """Return the next number."""
        return self._ahead.pop(0) if self._ahead else self._rng.random()

    def peek(self, count: int) -> list[float]:
        """Return the next numbers without taking them."""
        if len(self._ahead) < count:
            self._ahead.extend(self._rng.random(count - len(self._ahead)).tolist())
        return self._ahead[:count]

    def take(self, count: int) -> None:
        """Drop numbers that `peek` has returned."""
        del self._ahead[:count]


def derive_seed(seed: int | None, index: int) -> int | None:
    """Return the seed of one of several answers to a request; the first one has the request's own."""
    if seed is None or index == 0:
        return seed
    return int(np.random.SeedSequence(seed % 2**64, spawn_key=(index,)).generate_state(1, np.uint64)[0])


def is_greedy(params: SamplingParams) -> bool:
    """Whether the most likely token is always taken."""
    return params.temperature < GREEDY_TEMPERATURE


def sample(logits: Row, params: SamplingParams, rng: Uniform) -> int:
    """Sample one token id from logits of shape [vocabulary].

    Exactly one random number is drawn per sampled token; none if the most likely one is taken.
    """
    return int(logits.argmax()) if is_greedy(params) else draw(logits, params, rng.random())


def draw(logits: Row, params: SamplingParams, uniform: float) -> int:
    """Return the token id that a random number from 0 to 1 gives, by inverting the cumulative distribution."""
    weights = np.exp((logits - logits.max()) / np.float32(params.temperature))
    kept = candidates(logits, weights, params)
    if kept is not None:
        weights = weights[kept]
    cumulative = np.cumsum(weights, dtype=np.float64)
    index = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    index = min(index, len(weights) - 1)
    return index if kept is None else int(kept[index])


def candidates(logits: Row, weights: Row, params: SamplingParams) -> npt.NDArray[np.intp] | None:
    """Return the token ids that top_k, top_p and min_p leave, applied in transformers' order; None for all.

    Args:
        logits: Shape [vocabulary].
        weights: Probabilities in proportion, shape [vocabulary]; the largest is 1.
        params: The sampling parameters.
    """
    kept = None
    if 0 < params.top_k < len(logits):
        kept = _most_likely(logits, params.top_k)
    if params.top_p < 1:
        kept = _nucleus(weights, params.top_p) if kept is None else kept[: _share(weights[kept], params.top_p)]
    if params.min_p > 0:
        kept = np.flatnonzero(weights >= params.min_p) if kept is None else kept[weights[kept] >= params.min_p]
    return kept


def _most_likely(logits: Row, count: int) -> npt.NDArray[np.intp]:
    """Return the indices of the `count` largest logits and of those equal to the last of them, largest first."""
    kept = np.flatnonzero(logits >= np.partition(logits, -count)[-count])
    return kept[np.argsort(-logits[kept], kind="stable")]


def _share(weights: Row, top_p: float) -> int:
    """Return how many of the weights, largest first, make up `top_p` of their sum."""
    cumulative = np.cumsum(weights, dtype=np.float64)
    return int(np.searchsorted(cumulative, top_p * cumulative[-1])) + 1


def _nucleus(weights: Row, top_p: float) -> npt.NDArray[np.intp]:
    """Return the indices, most likely first, of the smallest set with at least `top_p` of the total weight."""
    total = float(weights.sum(dtype=np.float64))
    count = min(FIRST_CANDIDATES, len(weights))
    while True:
        order = largest(weights, count)
        cumulative = np.cumsum(weights[order], dtype=np.float64)
        if cumulative[-1] >= top_p * total or count == len(weights):
            keep = int(np.searchsorted(cumulative, top_p * total)) + 1
            return order[:keep]
        count = min(count * 8, len(weights))


def largest(values: npt.NDArray[Any], count: int) -> npt.NDArray[np.intp]:
    """Return the indices of the `count` largest values, largest first, ties by index."""
    if count >= len(values):
        return np.argsort(-values, kind="stable")
    part = np.argpartition(-values, count)[:count]
    part.sort()
    return part[np.argsort(-values[part], kind="stable")]


def token_logprob(logits: Row, token_id: int, top: int) -> TokenLogprob:
    """Return the log probability of a token and of the `top` most likely ones, before temperature and top_p."""
    shifted = logits - logits.max()
    norm = float(np.log(np.exp(shifted).sum(dtype=np.float64)))
    best = largest(logits, top) if top else ()
    return TokenLogprob(
        token_id,
        float(shifted[token_id]) - norm,
        tuple((int(index), float(shifted[index]) - norm) for index in best),
    )
