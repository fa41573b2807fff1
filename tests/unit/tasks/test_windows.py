"""Windows of long contexts, and answers found in them, against straightforward implementations."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.tiny_tasks import ENCODERS, train_task_tokenizer
from tunesmith_api.failures import StageError
from tunesmith_trainer.data.encoding_log import Outcome
from tunesmith_trainer.tasks.question_answering.encoder import QuestionEncoder, stride_of
from tunesmith_trainer.tasks.question_answering.rows import Answer, QuestionRow
from tunesmith_trainer.tasks.question_answering.spans import WindowLogits, best_answer, best_span
from tunesmith_trainer.tasks.question_answering.task import QuestionAnswering

tokenizer_of = cache(train_task_tokenizer)
families = st.sampled_from(ENCODERS)
texts = st.text(st.sampled_from("aelnorz  .,'-ÄñK9東京🙂"), min_size=1, max_size=120).filter(lambda text: text.strip())


@st.composite
def asked(draw: Any) -> QuestionRow:
    context = draw(texts)
    answers: tuple[Answer, ...] = ()
    if draw(st.booleans()):
        start = draw(st.integers(0, len(context) - 1))
        end = draw(st.integers(start + 1, min(len(context), start + 15)))
        answers = (Answer(context[start:end], start),) if context[start:end].strip() else ()
    question = draw(st.text(st.sampled_from("aeo ?"), min_size=1, max_size=8).filter(lambda text: text.strip()))
    return QuestionRow("f:1", query=question, context=context, answers=answers)


@settings(max_examples=1000, deadline=None)
@given(families, asked(), st.integers(16, 80))
def test_windows_overlap_and_only_those_with_the_answer_have_it(family: Any, row: QuestionRow, most: int) -> None:
    tokenizer = tokenizer_of(family)
    question = tokenizer(row.query.strip(), add_special_tokens=False)["input_ids"]
    context = tokenizer(row.context, add_special_tokens=False, return_offsets_mapping=True)
    tokens, places = context["input_ids"], context["offset_mapping"]
    added, stride = tokenizer.num_special_tokens_to_add(pair=True), stride_of(most)
    room = most - added - len(question)
    encoder = QuestionEncoder(tokenizer, most)
    if room <= stride:
        with pytest.raises(StageError, match=f"question has {len(question)} tokens"):
            list(encoder.encode([row]))
        return
    [windows] = encoder.encode([row])
    # Parts of the context, one after the other, until its last token is there.
    parts = [(0, min(room, len(tokens)))]
    while parts[-1][1] < len(tokens):
        begin = parts[-1][1] - stride
        parts.append((begin, min(begin + room, len(tokens))))
    expected = []
    for begin, end in parts:
        answer = (0, 0)
        if row.answers:
            start = row.answers[0].start
            characters = [
                place for place in range(start, start + len(row.answers[0].text)) if not row.context[place].isspace()
            ]
            inside = [
                number
                for number, (first, last) in enumerate(places[begin:end])
                if any(first <= place < last for place in range(characters[0], characters[-1] + 1))
            ]
            if inside and places[begin][0] <= characters[0] and places[end - 1][1] > characters[-1]:
                answer = (inside[0], inside[-1])
            else:
                answer = (-1, -1)
        expected.append((tokens[begin:end], answer))
    if row.answers and all(answer == (-1, -1) for _, answer in expected):
        assert windows == []
        assert encoder.log.counts[Outcome.SKIPPED] == 1
        return
    assert len(windows) == len(expected)
    for window, (part, (first, last)) in zip(windows, expected, strict=True):
        start, end, begin, stop = (int(number) for number in window.targets)
        assert window.ids[begin:stop] == part
        assert len(window.ids) == len(part) + len(question) + added <= most
        assert window.ids[1 : 1 + len(question)] == question
        is_here = bool(row.answers) and first >= 0
        assert (start, end) == ((begin + first, begin + last) if is_here else (0, 0))
        assert window.mask == [1] * len(window.ids)
    assert encoder.log.counts[Outcome.SPLIT] == (len(windows) > 1)


def test_types_of_tokens_are_those_of_the_tokenizer() -> None:
    tokenizer = tokenizer_of("bert")
    theirs = tokenizer("who is it?", "the quick brown fox", return_token_type_ids=True)
    assert QuestionAnswering().token_types(theirs["input_ids"], None) == theirs["token_type_ids"]


def test_a_long_question_says_what_to_write() -> None:
    tokenizer = tokenizer_of("bert")
    row = QuestionRow("f:9", query="a " * 30, context="the fox", answers=(Answer("fox", 4),))
    with pytest.raises(StageError) as caught:
        list(QuestionEncoder(tokenizer, 32).encode([row]))
    assert caught.value.message.startswith("f:9: question has 30 tokens; with 3 special tokens and the 8 that windows")
    least = int(caught.value.remedy.split("maxLength: ")[1].split()[0])
    assert list(QuestionEncoder(tokenizer, least).encode([row]))  # the remedy works, and is the least that does
    with pytest.raises(StageError):
        list(QuestionEncoder(tokenizer, least - 1).encode([row]))


numbers = st.integers(-4, 4).map(float)


@st.composite
def logits(draw: Any) -> WindowLogits:
    begin, tokens = draw(st.integers(1, 3)), draw(st.integers(1, 45))
    values = [draw(st.lists(numbers, min_size=begin + tokens + 1, max_size=begin + tokens + 1)) for _ in range(2)]
    start, end = (np.array(value, np.float32) for value in values)
    return WindowLogits(start, end, begin, [(place, place + 1) for place in range(tokens)])


@settings(max_examples=500, deadline=None)
@given(logits())
def test_best_span_is_the_best_of_all(window: WindowLogits) -> None:
    tokens = range(len(window.offsets))
    every = [
        (float(window.start[window.begin + first] + window.end[window.begin + last]), first, last)
        for first in tokens
        for last in tokens
        if first <= last < first + 30
    ]
    best = max(score for score, _, _ in every)
    found = best_span(window)
    assert found.score == best
    assert (best, found.first, found.last - 1) in every


def test_an_answer_has_30_tokens_at_most() -> None:
    values = np.zeros(41, np.float32)
    start, end = values.copy(), values.copy()
    start[1], end[30], end[31] = 9, 8, 9  # 30 tokens, and better ones 31
    window = WindowLogits(start, end, 1, [(place, place + 1) for place in range(40)])
    assert best_span(window) == (17.0, 0, 30)


@settings(max_examples=500, deadline=None)
@given(st.lists(logits(), min_size=1, max_size=3), st.booleans())
def test_no_answer_where_every_window_has_more_for_it(windows: list[WindowLogits], may_have_none: bool) -> None:
    context = "".join(chr(97 + place % 26) for place in range(60))
    found = best_answer(context, windows, may_have_none=may_have_none)
    null = min(float(window.start[0] + window.end[0]) for window in windows)
    best = max(best_span(window).score for window in windows)
    assert (found == "") == (may_have_none and null - best > 0)
    assert found in context
