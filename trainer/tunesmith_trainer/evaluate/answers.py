"""Metrics of answers beside their references."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+")


def exact_match(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return the share of answers that equal their reference, ignoring surrounding white space; NaN for none."""
    if not references:
        return math.nan
    equal = sum(a.strip() == r.strip() for a, r in zip(answers, references, strict=True))
    return equal / len(references)


def rouge_l(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return the mean ROUGE-L (F1 of the longest common subsequence of words), 0 to 1; NaN for none."""
    if not references:
        return math.nan
    found = [_f1(_words(reference), _words(answer)) for reference, answer in zip(references, answers, strict=True)]
    return float(sum(found)) / len(found)


def _words(text: str) -> list[str]:
    """Split a text as rouge-score does, but keep the letters of all scripts, where its own tokenizer keeps a to z."""
    return _WORD.findall(text.lower())


def _f1(expected: list[str], found: list[str]) -> float:
    """Return the F1 of the longest common subsequence, as rouge-score has it.

    The library itself is not used: importing it loads nltk, scikit-learn and pandas, which takes longer than a small
    evaluation.
    """
    lengths = [0] * (len(found) + 1)
    for word in expected:
        diagonal = 0
        for place, other in enumerate(found, start=1):
            longer = diagonal + 1 if word == other else max(lengths[place], lengths[place - 1])
            diagonal, lengths[place] = lengths[place], longer
    return 2 * lengths[-1] / max(1, len(expected) + len(found))


def chrf(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return sacrebleu's chrF over all answers (n-grams of up to 6 characters, beta 2), 0 to 100; NaN for none."""
    if not references:
        return math.nan
    from sacrebleu.metrics import CHRF

    return float(CHRF().corpus_score(list(answers), [list(references)]).score)
