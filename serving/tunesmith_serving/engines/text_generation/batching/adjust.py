"""Changing logits before sampling: bias and penalties.

In vLLM's order: the bias, the repetition penalty, then the frequency and presence penalties.
"""

from collections.abc import Iterable
from itertools import chain

import numpy as np

from tunesmith_serving.engines.text_generation.batching.sampling import Row
from tunesmith_serving.engines.text_generation.batching.types import SamplingParams


class LogitsAdjuster:
    """The bias and the penalties of one request, with the tokens that they depend on."""

    def __init__(self, params: SamplingParams, prompt_ids: Iterable[int]) -> None:
        self._params = params
        self._bias_ids = np.array([token for token, _ in params.logit_bias], np.intp)
        self._bias = np.array([value for _, value in params.logit_bias], np.float32)
        self._prompt = dict.fromkeys(prompt_ids) if params.repetition_penalty != 1 else {}
        self._counts: dict[int, int] = {}

    def add(self, token: int) -> None:
        """Count a token of the answer."""
        self._counts[token] = self._counts.get(token, 0) + 1
        self._prompt.pop(token, None)

    def apply(self, logits: Row) -> Row:
        """Return changed logits of shape [vocabulary]; the given ones stay as they are."""
        out = logits.copy()
        out[self._bias_ids] += self._bias
        answer = np.fromiter(self._counts, np.intp, len(self._counts))
        penalty = np.float32(self._params.repetition_penalty)
        if penalty != 1:
            seen = np.fromiter(chain(self._counts, self._prompt), np.intp, len(self._counts) + len(self._prompt))
            values = out[seen]
            out[seen] = np.where(values < 0, values * penalty, values / penalty)
        counts = np.fromiter(self._counts.values(), np.float32, len(self._counts))
        out[answer] -= np.float32(self._params.frequency_penalty) * counts + np.float32(self._params.presence_penalty)
        return out
