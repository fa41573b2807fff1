"""Rows of a question, a context and the answers in it: flat ones, and the nested files of SQuAD 1.1 and 2.0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from tunesmith_api.spec import DatasetFormat
from tunesmith_trainer.data.conversation import as_text
from tunesmith_trainer.data.errors import dataset_error, shown
from tunesmith_trainer.data.formats import Format, Formats
from tunesmith_trainer.data.lists import as_offset, from_json_text
from tunesmith_trainer.data.rows import Row

Fields = dict[str, Any]

_ANSWERS = '"answers": {"text": ["Paris"], "answer_start": [11]}'
_NONE = '"answers": {"text": [], "answer_start": []}'


@dataclass(frozen=True)
class Answer:
    """A right answer.

    Attributes:
        text: Its text.
        start: Its first character in the context, from 0.
    """

    text: str
    start: int


@dataclass(frozen=True)
class QuestionRow(Row):
    """A question about a context.

    Attributes:
        query: The question.
        context: The text that it is about.
        answers: Right answers; the first one is learned. None if the context does not say it.
        id: Its identifier in the file; empty if it has none.
    """

    query: str = ""
    context: str = ""
    answers: tuple[Answer, ...] = ()
    id: str = ""

    @property
    def texts(self) -> list[str]:
        """Question, context and answers."""
        return [*self.question, *(f"{answer.start}:{answer.text}" for answer in self.answers)]

    @property
    def question(self) -> list[str]:
        """Question and context."""
        return [self.query, self.context]

    @property
    def learned(self) -> str:
        """The first answer."""
        return self.answers[0].text if self.answers else "no answer"

    @property
    def characters(self) -> int:
        """Number of characters of the question and the context."""
        return len(self.query) + len(self.context)


def read_question(location: str, fields: Fields) -> QuestionRow:
    """Return a checked row.

    Raises:
        StageError: INVALID_DATASET, with the field and what to write instead.
    """
    query = as_text(location, "question", fields["question"])
    context = as_text(location, "context", fields["context"])
    given = _pairs(location, fields["answers"])
    answers = tuple(_answer(location, names, text, start, context) for names, text, start in given)
    impossible = fields.get("is_impossible")
    if impossible is not None and not isinstance(impossible, bool):
        raise dataset_error(location, f"is_impossible is {shown(impossible)}", "Write true or false, or leave it out")
    if impossible and answers:
        raise dataset_error(
            location,
            f"is_impossible is true, and there is the answer {shown(answers[0].text)}",
            f"Write {_NONE} (what only seems right belongs into plausible_answers), or is_impossible: false",
        )
    if impossible is False and not answers:
        raise dataset_error(
            location, "is_impossible is false, and there is no answer", f"Write {_ANSWERS}, or is_impossible: true"
        )
    name = fields.get("id")
    return QuestionRow(location, query=query, context=context, answers=answers, id="" if name is None else str(name))


def _pairs(location: str, value: Any) -> list[tuple[tuple[str, str], Any, Any]]:  # noqa: ANN401 - any JSON value
    """Return the names of both fields, text and start of each answer."""
    value = from_json_text(location, "answers", value, _ANSWERS)
    if isinstance(value, dict):
        texts: Any = value.get("text")
        starts: Any = value.get("answer_start")
        for name, given in (("text", texts), ("answer_start", starts)):
            if not isinstance(given, list):
                state = "missing" if name not in value else f"{shown(given)}, not a list"
                raise dataset_error(
                    location, f"answers.{name} is {state}", f"Write {_ANSWERS}, or {_NONE} for no answer"
                )
        if len(texts) != len(starts):
            raise dataset_error(
                location,
                f"answers.text has {len(texts)} entries, answers.answer_start {len(starts)}",
                "Write one answer_start for each text",
            )
        names = [(f"answers.text[{index}]", f"answers.answer_start[{index}]") for index in range(len(texts))]
        return list(zip(names, texts, starts, strict=True))
    if not isinstance(value, list):
        state = "null" if value is None else shown(value)
        raise dataset_error(location, f"answers is {state}", f"Write {_ANSWERS}, or {_NONE} for no answer")
    found = []
    for index, answer in enumerate(value):
        for name in ("text", "answer_start"):
            if not isinstance(answer, dict) or name not in answer:
                missing = f"answers[{index}].{name} is missing"
                problem = missing if isinstance(answer, dict) else f"answers[{index}] is {shown(answer)}, not an object"
                raise dataset_error(location, problem, 'Write "answers": [{"text": "Paris", "answer_start": 11}]')
        pair = (f"answers[{index}].text", f"answers[{index}].answer_start")
        found.append((pair, answer["text"], answer["answer_start"]))
    return found


def _answer(location: str, names: tuple[str, str], text: Any, start: Any, context: str) -> Answer:  # noqa: ANN401
    if not isinstance(text, str) or not text.strip():
        state = "empty" if isinstance(text, str) else f"{shown(text)}, not a text"
        raise dataset_error(
            location, f"{names[0]} is {state}", f"Write the answer as the context has it; {_NONE} if none"
        )
    first = as_offset(location, names[1], start)
    if context[first : first + len(text)] != text:
        _refuse(location, names, text, first, context)
    return Answer(text, first)


def _refuse(location: str, names: tuple[str, str], text: str, start: int, context: str) -> NoReturn:
    """Raise the error for an answer that is not where it is said to be."""
    there = context[start : start + len(text)]
    has = f"where the context has {shown(there)}" if there else f"outside the context of {len(context)} characters"
    problem = f"{names[1]} is {start}, {has}, not {shown(text)}"
    places, place = [], context.find(text)
    while place >= 0:
        places.append(place)
        place = context.find(text, place + 1)
    if places:
        nearest = min(places, key=lambda place: abs(place - start))
        remedy = f"Write {nearest}, where it is (characters, not bytes, from 0)"
    elif (place := context.casefold().find(text.strip().casefold())) >= 0:
        same = context[place : place + len(text.strip())]
        remedy = f"The context has {shown(same)} at {place}: write that as text and answer_start"
    else:
        remedy = "It is nowhere in the context: write a part of the context, or remove the row; answers in other words "
        remedy += "are learned by the task textGeneration"
    raise dataset_error(location, problem, remedy)


def expand(location: str, fields: Fields) -> Iterator[tuple[str, Fields]]:
    """Yield location and fields of each question in an article of a SQuAD file; of any other row, the row itself.

    Args:
        location: Location of the article.
        fields: The article, `{paragraphs: [{context, qas: [{question, id, answers, is_impossible}]}]}`, or a row.

    Raises:
        StageError: INVALID_DATASET: the article does not have that form.
    """
    if "paragraphs" not in fields or "question" in fields:
        yield location, fields
        return
    for number, paragraph in enumerate(_objects(location, "paragraphs", fields["paragraphs"]), 1):
        place = f"{location}, paragraph {number}"
        if "context" not in paragraph or "qas" not in paragraph:
            name = "qas" if "context" in paragraph else "context"
            raise dataset_error(place, f"{name} is missing", 'Write {"context": "...", "qas": [{"question": ...}]}')
        for index, question in enumerate(_objects(place, "qas", paragraph["qas"]), 1):
            own = {name: value for name, value in question.items() if name != "plausible_answers"}
            if own.get("is_impossible") is True:
                own.setdefault("answers", [])
            if missing := [name for name in ("question", "answers") if name not in own]:
                shape = '{"question": "...", "id": "...", "answers": [{"text": "Paris", "answer_start": 11}]}'
                raise dataset_error(f"{place}, question {index}", f"{missing[0]} is missing", f"Write {shape}")
            yield f"{place}, question {index}", {"context": paragraph["context"], **own}


def _objects(location: str, field: str, value: Any) -> list[Fields]:  # noqa: ANN401 - any JSON value
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise dataset_error(
            location, f"{field} is {shown(value)}, not a list of objects", f'Write "{field}": [{{...}}]'
        )
    return value


FORMATS: Formats = {
    DatasetFormat.SQUAD: Format(
        ("question", "context", "answers"),
        ("id", "is_impossible"),
        f'{{"question": "What is it?", "context": "...", {_ANSWERS}}}',
        read_question,
        {
            "question": ("question", "query", "prompt"),
            "context": ("context", "passage", "paragraph", "document", "text"),
            "answers": ("answers", "answer"),
        },
        expand,
    )
}
