"""Rows of every format become the same turns; auto takes the right one."""

from typing import Any

import pytest

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import DatasetFormat
from tunesmith_trainer.data.formats import RowParser
from tunesmith_trainer.data.rows import Row, Turn

USER, ANSWER = Turn("user", "Add 1 and 1", False), Turn("assistant", "2", True)
SYSTEM = Turn("system", "Be short.", False)


def parse(fields: dict[str, Any], wanted: DatasetFormat = DatasetFormat.AUTO, columns: dict | None = None) -> Row:
    return RowParser(wanted, columns).parse("f:1", fields)


@pytest.mark.parametrize(
    ("fields", "wanted", "turns"),
    [
        (
            {"messages": [{"role": "user", "content": "Add 1 and 1"}, {"role": "assistant", "content": "2"}]},
            DatasetFormat.MESSAGES,
            (USER, ANSWER),
        ),
        (
            {
                "messages": [
                    {"role": "developer", "content": "Be short."},
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "Add 1"}, {"type": "text", "text": " and 1"}],
                    },
                    {"role": "assistant", "content": "2"},
                ]
            },
            DatasetFormat.MESSAGES,
            (SYSTEM, USER, ANSWER),
        ),
        ({"prompt": "Add 1 and 1", "completion": "2"}, DatasetFormat.PROMPT_COMPLETION, (USER, ANSWER)),
        (
            {
                "prompt": [
                    {"role": "user", "content": "Hi"},
                    {"role": "assistant", "content": "Hello"},
                    {"role": "user", "content": "Add 1 and 1"},
                ],
                "completion": [{"role": "assistant", "content": "2"}],
            },
            DatasetFormat.PROMPT_COMPLETION,
            (Turn("user", "Hi", False), Turn("assistant", "Hello", False), USER, ANSWER),
        ),
        ({"instruction": "Add 1 and 1", "input": "", "output": "2"}, DatasetFormat.ALPACA, (USER, ANSWER)),
        (
            {"instruction": "Add", "input": "1 and 1", "output": "2", "text": "all of it"},
            DatasetFormat.ALPACA,
            (Turn("user", "Add\n\n1 and 1", False), ANSWER),
        ),
        (
            {"system": "Be short.", "instruction": "Add 1 and 1", "output": "2"},
            DatasetFormat.ALPACA,
            (SYSTEM, USER, ANSWER),
        ),
        (
            {"conversations": [{"from": "human", "value": "Add 1 and 1"}, {"from": "gpt", "value": "2"}]},
            DatasetFormat.SHAREGPT,
            (USER, ANSWER),
        ),
    ],
)
def test_auto_takes_the_format(fields: dict[str, Any], wanted: DatasetFormat, turns: tuple[Turn, ...]) -> None:
    parser = RowParser(DatasetFormat.AUTO, None)
    assert parser.parse("f:1", fields).turns == turns
    assert parser.format is wanted
    assert parse(fields, wanted).turns == turns


def test_text() -> None:
    row = parse({"text": "Once upon a time", "id": 7})
    assert (row.text, row.turns) == ("Once upon a time", ())


def test_columns_rename() -> None:
    row = parse({"question": "Add 1 and 1", "answer": "2"}, columns={"prompt": "question", "completion": "answer"})
    assert row.turns == (USER, ANSWER)


def test_columns_swap() -> None:
    row = parse({"completion": "Add 1 and 1", "prompt": "2"}, columns={"prompt": "completion", "completion": "prompt"})
    assert row.turns == (USER, ANSWER)


@pytest.mark.parametrize("wanted", [DatasetFormat.TEXT, DatasetFormat.AUTO])
def test_columns_of_no_format_are_refused_before_any_row(wanted: DatasetFormat) -> None:
    with pytest.raises(StageError) as caught:
        RowParser(wanted, {"question": "q"})
    assert caught.value.reason is Reason.INVALID_SPEC
    assert "spec.dataset.columns" in caught.value.message
    assert "text" in caught.value.remedy


def test_columns_of_another_format_are_refused_when_it_is_recognised() -> None:
    with pytest.raises(StageError, match="promptCompletion has no column 'instruction'"):
        parse({"prompt": "a", "completion": "b", "c": "d"}, columns={"instruction": "c"})


def test_column_that_the_file_lacks() -> None:
    with pytest.raises(StageError, match=r"f:1: there is no column 'question' \(the row has 'q'\)"):
        parse({"q": "a"}, DatasetFormat.TEXT, {"text": "question"})


def test_optional_column_may_lack() -> None:
    row = parse({"instruction": "Add 1 and 1", "output": "2"}, columns={"input": "context"})
    assert row.turns == (USER, ANSWER)


def test_format_given_and_another_found_names_both() -> None:
    with pytest.raises(StageError, match="in the format promptCompletion, not messages") as caught:
        parse({"prompt": "a", "completion": "b"}, DatasetFormat.MESSAGES)
    assert '{"messages": [' in caught.value.remedy


@pytest.mark.parametrize("key", ["tools", "functions"])
def test_tools_are_refused(key: str) -> None:
    with pytest.raises(StageError, match=f"{key}: tool definitions are not supported"):
        parse({"prompt": "a", "completion": "b", key: [{"name": "weather"}]})
