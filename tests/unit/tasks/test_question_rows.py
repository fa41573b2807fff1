"""Rows of questions, flat and nested: what is read, and what is refused with where, what and instead."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import DatasetFormat
from tunesmith_trainer.data.formats import RowParser
from tunesmith_trainer.data.sources import Dataset, SourceFile
from tunesmith_trainer.tasks.question_answering.rows import FORMATS, Answer, QuestionRow
from tunesmith_trainer.tasks.question_answering.targets import AnswerTargets

CONTEXT = "Köln is older than Bonn. Bonn is smaller."
GOOD: dict[str, Any] = {
    "question": "What is older?",
    "context": CONTEXT,
    "answers": {"text": ["Köln"], "answer_start": [0]},
}


def read(folder: Path, content: Any, name: str = "rows.jsonl") -> list[Any]:
    path = folder / name
    text = json.dumps(content) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in content)
    path.write_text(text)
    return list(Dataset([SourceFile(name, path, "")], RowParser(DatasetFormat.AUTO, None, FORMATS)))


def answers(text: list[Any], start: list[Any]) -> dict[str, Any]:
    return {"answers": {"text": text, "answer_start": start}}


BAD: list[tuple[dict[str, Any], str, str]] = [
    (answers(["Bonn"], [20]), "answers.answer_start[0] is 20, where the context has 'onn.', not 'Bonn'", "Write 19"),
    (answers(["Bonn"], [24]), "answers.answer_start[0] is 24", "Write 25"),
    (answers(["Bonn"], [99]), "is 99, outside the context of 41 characters", "Write 25, where it is"),
    (answers(["bonn"], [19]), "where the context has 'Bonn', not 'bonn'", "has 'Bonn' at 19: write that"),
    (answers(["Berlin"], [0]), "not 'Berlin'", "nowhere in the context"),
    (answers(["Köln"], [-1]), "answers.answer_start[0] is -1, below 0", "from 0"),
    (answers(["Köln"], ["0"]), "answers.answer_start[0] is '0', not a whole number", "number of characters"),
    (answers(["Köln", "Bonn"], [0]), "answers.text has 2 entries, answers.answer_start 1", "one answer_start for each"),
    (answers(["Köln", ""], [0, 0]), "answers.text[1] is empty", "as the context has it"),
    (answers([None], [0]), "answers.text[0] is None, not a text", "as the context has it"),
    ({"answers": {"text": ["Köln"]}}, "answers.answer_start is missing", '"answer_start": [11]'),
    ({"answers": {"text": "Köln", "answer_start": 0}}, "answers.text is 'Köln', not a list", '"text": ["Paris"]'),
    ({"answers": None}, "answers is null", '"text": [], "answer_start": []'),
    ({"answers": "Köln"}, "answers is 'Köln'", '"text": ["Paris"]'),
    ({"answers": "{'text': ['a']}"}, "answers is not valid JSON: it is a Python value", "json.dumps"),
    ({"answers": [{"text": "Köln"}]}, "answers[0].answer_start is missing", '[{"text": "Paris"'),
    ({"answers": ["Köln"]}, "answers[0] is 'Köln', not an object", '[{"text": "Paris"'),
    ({"context": " "}, "context is empty", "Write its text"),
    ({"question": ""}, "question is empty", "Write its text"),
    ({"question": None}, "question is null", "Write its text"),
    ({"is_impossible": True}, "is_impossible is true, and there is the answer 'Köln'", "plausible_answers"),
    ({**answers([], []), "is_impossible": False}, "is_impossible is false, and there is no answer", "true"),
    ({"is_impossible": "no"}, "is_impossible is 'no'", "Write true or false"),
]


@pytest.mark.parametrize(("changed", "problem", "remedy"), BAD, ids=lambda value: str(value)[:40])
def test_bad_row(changed: dict[str, Any], problem: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        read(tmp_path, [GOOD, GOOD | changed])
    assert caught.value.reason is Reason.INVALID_DATASET
    assert caught.value.message.startswith("rows.jsonl:2: ")
    assert problem in caught.value.message
    assert remedy in caught.value.remedy


def test_no_question_has_an_answer(tmp_path: Path) -> None:
    targets = AnswerTargets()
    for row in read(tmp_path, [GOOD | answers([], [])] * 2):
        targets.add(row)
    with pytest.raises(StageError, match="rows.jsonl:1: answers: this question and all others have none"):
        targets.facts()


def test_other_names_of_columns_are_suggested(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        read(tmp_path, [{"query": "a", "passage": CONTEXT, "answers": []}])
    assert caught.value.remedy == "Write spec.dataset.columns: {question: query, context: passage}"


def test_flat_rows_in_both_forms(tmp_path: Path) -> None:
    expected = (Answer("Bonn", 19), Answer("Bonn", 25))
    listed = [{"text": "Bonn", "answer_start": 19}, {"text": "Bonn", "answer_start": 25}]
    rows = [
        {**GOOD, "id": 7, **answers(["Bonn", "Bonn"], [19, 25])},
        GOOD | {"answers": listed},
        GOOD | {"answers": json.dumps(listed)},
        GOOD | answers([], []),
        GOOD | {"answers": []},
    ]
    found = read(tmp_path, rows)
    assert found[0] == QuestionRow("rows.jsonl:1", query="What is older?", context=CONTEXT, answers=expected, id="7")
    assert [row.answers for row in found] == [expected] * 3 + [()] * 2


def nested(**question: Any) -> dict[str, Any]:
    own = {"question": "What is older?", "id": "q1", "answers": [{"text": "Köln", "answer_start": 0}], **question}
    other = {"question": "Why?", "id": "q2", "answers": [], "is_impossible": True}
    other |= {"plausible_answers": [{"text": "Bonn", "answer_start": 19}]}
    first, second = {"context": "Unused.", "qas": []}, {"context": CONTEXT, "qas": [own, other]}
    return {"version": "v2.0", "data": [{"title": "Towns", "paragraphs": [first, second]}]}


@pytest.mark.parametrize("indent", [None, 2])
def test_nested_file(indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "train-v2.0.json"
    path.write_text(json.dumps(nested(), indent=indent))
    data = Dataset([SourceFile(path.name, path, "")], RowParser(DatasetFormat.AUTO, None, FORMATS))
    place = "train-v2.0.json: row 1, paragraph 2, question"
    assert list(data) == [
        QuestionRow(f"{place} 1", query="What is older?", context=CONTEXT, answers=(Answer("Köln", 0),), id="q1"),
        QuestionRow(f"{place} 2", query="Why?", context=CONTEXT, id="q2"),
    ]
    assert data.counts == [2]
    assert data.parser.format is DatasetFormat.SQUAD


def test_nested_file_whose_rows_are_flat(tmp_path: Path) -> None:
    [row] = read(tmp_path, {"version": "1", "data": [GOOD]}, "rows.json")
    assert row.location == "rows.json: row 1"


@pytest.mark.parametrize(
    ("article", "problem"),
    [
        (
            nested(answers=[{"text": "Köln", "answer_start": 5}])["data"][0],
            "row 1, paragraph 2, question 1: answers[0].a",
        ),
        ({"paragraphs": {}}, "row 1: paragraphs is {}, not a list of objects"),
        ({"paragraphs": [{"qas": []}]}, "row 1, paragraph 1: context is missing"),
        ({"paragraphs": [{"context": "a"}]}, "row 1, paragraph 1: qas is missing"),
        ({"paragraphs": [{"context": "a", "qas": [1]}]}, "row 1, paragraph 1: qas is [1], not a list of objects"),
        ({"paragraphs": [{"context": "a", "qas": [{}]}]}, "row 1, paragraph 1, question 1: question is missing"),
        (
            {"paragraphs": [{"context": "a", "qas": [{"question": "b"}]}]},
            "row 1, paragraph 1, question 1: answers is missing",
        ),
    ],
)
def test_bad_nested_file(article: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        read(tmp_path, {"data": [article]}, "dev.json")
    assert caught.value.message.startswith(f"dev.json: {problem}")
