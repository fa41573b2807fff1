"""ROUGE-L and chrF are those of rouge-score and sacrebleu, and say something in every script."""

import math
from random import Random

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_chrf

from tunesmith_api.spec import EvaluationSpec
from tunesmith_trainer.evaluate.answers import chrf, rouge_l
from tunesmith_trainer.evaluate.evaluation import metrics_of
from tunesmith_trainer.evaluate.prompts import EvalPrompt
from tunesmith_trainer.evaluate.scores import Scores

WORDS = "the cat sat on a mat and it was not very long before 42 dogs came, too. OK?".split()


def texts(random: Random, count: int) -> list[str]:
    return [" ".join(random.choices(WORDS, k=random.randint(1, 12))) for _ in range(count)]


def test_they_are_the_libraries_own_numbers() -> None:
    random = Random(0)  # noqa: S311 - test data
    answers, references = texts(random, 50), texts(random, 50)
    scorer = RougeScorer(["rougeL"])
    expected = [scorer.score(r, a)["rougeL"].fmeasure for r, a in zip(references, answers, strict=True)]
    assert rouge_l(answers, references) == pytest.approx(sum(expected) / 50)
    assert 0.1 < rouge_l(answers, references) < 0.9
    assert chrf(answers, references) == pytest.approx(corpus_chrf(answers, [references]).score)


@pytest.mark.parametrize("text", ["Größe und Maß", "Привет, мир", "Φῶς ἱλαρόν", "नमस्ते दुनिया"])
def test_letters_of_all_scripts_count(text: str) -> None:
    assert rouge_l([text], [text]) == pytest.approx(1)
    assert rouge_l([text], [text.split()[0] + " something else"]) < 0.6
    assert chrf([text], [text]) == pytest.approx(100)


def test_nothing_to_compare_is_no_number() -> None:
    assert math.isnan(rouge_l([], []))
    assert math.isnan(chrf([], []))
    assert rouge_l([""], ["x"]) == 0


def test_answers_that_may_be_cut_are_left_out() -> None:
    prompts = [EvalPrompt(i, [1], "one two three") for i in range(4)]
    answers = ["one two three", "one two three", "one", ""]
    found = metrics_of(Scores.empty(1), answers, prompts, 2)
    assert (found["rougeL"], found["chrf"], found["exactMatch"]) == (1, 100, 0.5)
    whole = metrics_of(Scores.empty(1), answers, prompts, 4)
    assert whole["rougeL"] is not None and whole["rougeL"] < 0.7


def test_a_gate_on_texts_wants_whole_answers() -> None:
    plain = EvaluationSpec.model_validate({"gates": [{"metric": "exactMatch", "min": 0.5}]})
    texts = EvaluationSpec.model_validate({"gates": [{"metric": "chrf", "min": 50}]})
    assert (plain.needs_whole_answers, texts.needs_whole_answers) == (False, True)
    assert plain.result_fields == EvaluationSpec().result_fields != texts.result_fields
    other = EvaluationSpec.model_validate({"gates": [{"metric": "rougeL", "max": 1}]})
    assert texts.result_fields == other.result_fields
