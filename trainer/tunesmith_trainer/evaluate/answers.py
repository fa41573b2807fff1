"""Metrics of answers beside their references."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tunesmith_trainer.runtime.model_libraries import without_unused

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
    with without_unused():  # it imports nltk, which imports sklearn
        from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    pairs = zip(references, answers, strict=True)
    found = [scorer.score(reference, answer)["rougeL"].fmeasure for reference, answer in pairs]
    return float(sum(found)) / len(found)


class _Words:
    """Splits texts as rouge-score does, but keeps the letters of all scripts, where its own tokenizer keeps a to z."""

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text in lower case."""
        return _WORD.findall(text.lower())


def chrf(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return sacrebleu's chrF over all answers (n-grams of up to 6 characters, beta 2), 0 to 100; NaN for none."""
    if not references:
        return math.nan
    from sacrebleu.metrics import CHRF

    return float(CHRF().corpus_score(list(answers), [list(references)]).score)
