"""Exact match and F1 against the official evaluation of SQuAD 2.0, and the loss against that of transformers."""

import collections
import re
import string
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.tiny_tasks import build_task_model
from tunesmith_trainer.tasks.question_answering.collate import answer_loss
from tunesmith_trainer.tasks.question_answering.metrics import answer_metrics, answer_table, exact_match, f1, normalized

# The functions of the same names in evaluate-v2.0.py, which is published with SQuAD.


def normalize_answer(s: str) -> str:
    def remove_articles(text: str) -> str:
        regex = re.compile(r"\b(a|an|the)\b", re.UNICODE)
        return re.sub(regex, " ", text)

    def white_space_fix(text: str) -> str:
        return " ".join(text.split())

    def remove_punc(text: str) -> str:
        exclude = set(string.punctuation)
        return "".join(ch for ch in text if ch not in exclude)

    return white_space_fix(remove_articles(remove_punc(s.lower())))


def get_tokens(s: str) -> list[str]:
    return normalize_answer(s).split() if s else []


def compute_exact(a_gold: str, a_pred: str) -> int:
    return int(normalize_answer(a_gold) == normalize_answer(a_pred))


def compute_f1(a_gold: str, a_pred: str) -> float:
    gold_toks = get_tokens(a_gold)
    pred_toks = get_tokens(a_pred)
    common = collections.Counter(gold_toks) & collections.Counter(pred_toks)
    num_same = sum(common.values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return int(gold_toks == pred_toks)
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(pred_toks)
    recall = 1.0 * num_same / len(gold_toks)
    return (2 * precision * recall) / (precision + recall)


words = st.lists(st.sampled_from(["a", "The", "an", "Paris,", "paris", "U.S.", "x-y", "«é»", "", "42"]), max_size=6)
answers = words.map(" ".join)


@settings(max_examples=1000, deadline=None)
@given(answers, st.lists(answers, max_size=3))
def test_as_the_official_evaluation(answer: str, right: list[str]) -> None:
    gold = [one for one in right if normalize_answer(one)] or [""]
    assert exact_match(answer, right) == max(compute_exact(one, answer) for one in gold)
    assert f1(answer, right) == pytest.approx(max(compute_f1(one, answer) for one in gold))


@pytest.mark.parametrize(
    ("answer", "right", "exact", "score"),
    [
        ("Denver Broncos", ["Denver Broncos", "The Broncos"], 1, 1),
        ("the Denver Broncos!", ["Denver Broncos"], 1, 1),
        ("Broncos", ["Denver Broncos"], 0, 2 / 3),
        ("in 1066", ["1066", "the year 1066"], 0, 2 / 3),
        ("", [], 1, 1),
        ("", ["France"], 0, 0),
        ("France", [], 0, 0),
    ],
)
def test_examples(answer: str, right: list[str], exact: float, score: float) -> None:
    assert exact_match(answer, right) == exact
    assert f1(answer, right) == pytest.approx(score)


def test_normalized() -> None:
    assert normalized("  The  U.S.'s «Anthem», an A-team ") == "uss «anthem» ateam"


def test_means_and_parts() -> None:
    given_, right = ["Bonn", "in Köln", ""], [["Bonn"], ["Köln"], []]
    assert answer_metrics(given_, right) == {
        "exactMatch": pytest.approx(2 / 3),
        "f1": pytest.approx((1 + 2 / 3 + 1) / 3),
    }
    assert answer_metrics([], []) == {"exactMatch": None, "f1": None}
    table = answer_table(given_, right)
    assert table["hasAnswer"] == {"exactMatch": 0.5, "f1": pytest.approx(5 / 6), "questions": 2}
    assert table["noAnswer"] == {"exactMatch": 1.0, "f1": 1.0, "questions": 1}


def test_loss_is_that_of_transformers_and_padding_has_no_part_in_it(tmp_path: Any) -> None:
    from transformers import AutoModelForQuestionAnswering

    model = AutoModelForQuestionAnswering.from_pretrained(build_task_model(tmp_path, "bert", "ForQuestionAnswering"))
    ids = torch.randint(5, 90, (3, 12), generator=torch.Generator().manual_seed(0))
    starts, ends = torch.tensor([4, 0, 7]), torch.tensor([6, 0, 11])
    with torch.inference_mode():
        out = model.eval()(input_ids=ids, start_positions=starts, end_positions=ends)
    labels = torch.stack([starts, ends, torch.full((3,), 12)], 1)
    assert float(answer_loss(out, labels)) / 3 == pytest.approx(float(out.loss), rel=1e-6)
    wide = {
        name: torch.nn.functional.pad(getattr(out, name), (0, 5), value=9.0) for name in ("start_logits", "end_logits")
    }
    assert float(answer_loss(SimpleNamespace(**wide), labels)) == pytest.approx(float(answer_loss(out, labels)))
    assert np.isfinite(float(out.loss))
