"""Exact match and F1 of answers, as the official evaluation of SQuAD 2.0 computes them.

Source: Rajpurkar, Jia and Liang, "Know What You Don't Know: Unanswerable Questions for SQuAD" (2018), evaluate-v2.0.py.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """Return a text in lower case, without ASCII punctuation and English articles, with single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, right: Sequence[str]) -> float:
    """Return 1.0 if an answer is one of the right ones, else 0.0.

    Args:
        answer: The model's answer; empty for none.
        right: The right answers; none if there is no answer.
    """
    return max(float(normalized(answer) == normalized(one)) for one in _that_count(right))


def f1(answer: str, right: Sequence[str]) -> float:
    """Return the largest F1 of an answer's words against those of a right answer.

    Args:
        answer: The model's answer; empty for none.
        right: The right answers; none if there is no answer.
    """
    return max(_word_f1(normalized(answer).split(), normalized(one).split()) for one in _that_count(right))


def _that_count(right: Sequence[str]) -> Sequence[str]:
    return [one for one in right if normalized(one)] or [""]


def _word_f1(answer: Sequence[str], right: Sequence[str]) -> float:
    if not answer or not right:
        return float(answer == right)
    common = (Counter(answer) & Counter(right)).total()
    if not common:
        return 0.0
    precision, recall = common / len(answer), common / len(right)
    return 2 * precision * recall / (precision + recall)


def answer_metrics(answers: Sequence[str], right: Sequence[Sequence[str]]) -> dict[str, float | None]:
    """Return `{exactMatch, f1}`, the means over all questions, between 0 and 1; None if there are none.

    Args:
        answers: The model's answers.
        right: The right answers to each question.
    """
    if not answers:
        return {"exactMatch": None, "f1": None}
    pairs = list(zip(answers, right, strict=True))
    return {
        "exactMatch": sum(exact_match(*pair) for pair in pairs) / len(pairs),
        "f1": sum(f1(*pair) for pair in pairs) / len(pairs),
    }


def answer_table(answers: Sequence[str], right: Sequence[Sequence[str]]) -> dict[str, dict[str, float | int | None]]:
    """Return the metrics of the questions that have an answer and of those that have none, each with their number.

    Args:
        answers: The model's answers.
        right: The right answers to each question.
    """
    table: dict[str, dict[str, float | int | None]] = {}
    for name, wanted in (("hasAnswer", True), ("noAnswer", False)):
        part = [(answer, ones) for answer, ones in zip(answers, right, strict=True) if bool(ones) == wanted]
        if part:
            found = answer_metrics([answer for answer, _ in part], [ones for _, ones in part])
            table[name] = {**found, "questions": len(part)}
    return table
