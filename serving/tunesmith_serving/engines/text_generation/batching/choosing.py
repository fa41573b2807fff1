"""Choosing the next tokens of all rows of a step from its logits, and checking drafts.

A draft is right if it is the token that would be chosen without it: the most likely one, or the one that the row's
random number for this position gives. So drafts change no answer, only how many of its tokens a step gives. For a draft
that is a single token this is what rejection sampling does: it is accepted with the probability that the model gives
it, and otherwise another token is taken, with the probabilities that the model gives the others.
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from tunesmith_serving.engines.text_generation.batching.sampling_rows import Matrix, Tokens, sample_rows
from tunesmith_serving.engines.text_generation.batching.sequence import Sequence
from tunesmith_serving.engines.text_generation.batching.types import SamplingParams

_NOT_USED = SamplingParams(temperature=0)


@dataclass(frozen=True, slots=True)
class Advance:
    """What a step gave a request.

    Attributes:
        tokens: How many tokens of its answer: one, and one for each draft that was right.
        ended: Whether it has ended.
    """

    tokens: int
    ended: bool


def advance(sequences: Items[Sequence], drafts: Items[list[int]], logits: Matrix) -> list[Advance]:
    """Let each request take its next tokens.

    Args:
        sequences: The requests of the step.
        drafts: The tokens that each of them was given after its last one.
        logits: Of each request, those of its last token and of its drafts: [requests and drafts, vocabulary].
    """
    counts = [len(draft) + 1 for draft in drafts]
    starts = list(accumulate(counts, initial=0))
    at_once = [
        sequence.independent if draft else sequence.restrict(logits[start])
        for sequence, draft, start in zip(sequences, drafts, starts, strict=False)
    ]
    chosen = _choose(sequences, counts, at_once, logits)
    results = []
    for sequence, draft, start, is_chosen in zip(sequences, drafts, starts, at_once, strict=False):
        taken, ended, is_right = 0, False, True
        while is_right and not ended:
            row = start + taken
            ended = sequence.accept(logits[row], int(chosen[row]) if is_chosen else None)
            is_right = taken < len(draft) and sequence.last_token == draft[taken]
            taken += 1
        if is_chosen and not sequence.takes_likeliest:
            sequence.uniforms.take(taken)
        results.append(Advance(taken, ended))
    return results


def _choose(sequences: Items[Sequence], counts: list[int], at_once: list[bool], logits: Matrix) -> Tokens:
    """Return a token for each row of logits; those of requests whose tokens are not chosen at once are not used."""
    if all(sequence.takes_likeliest or not chosen for sequence, chosen in zip(sequences, at_once, strict=True)):
        return logits.argmax(axis=1)
    params = [
        sequence.params if chosen else _NOT_USED
        for sequence, count, chosen in zip(sequences, counts, at_once, strict=True)
        for _ in range(count)
    ]
    uniforms = np.zeros(len(logits))
    start = 0
    for sequence, count, chosen in zip(sequences, counts, at_once, strict=True):
        if chosen and not sequence.takes_likeliest:
            uniforms[start : start + count] = sequence.uniforms.peek(count)
        start += count
    return sample_rows(logits, params, uniforms)
