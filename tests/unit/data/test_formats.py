"""Rows of every format become the same turns; auto takes the right one."""

import json
from typing import Any

import pytest
import yaml

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import DatasetFormat
from tunesmith_trainer.data.formats import RowParser
from tunesmith_trainer.data.named_columns import require_columns
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


def test_a_column_that_no_row_has_is_refused_once_all_are_read() -> None:
    parser = RowParser(DatasetFormat.AUTO, {"input": "contxt"})
    require_columns(parser)
    for number in (1, 2):
        parser.parse(f"f:{number}", {"instruction": "Add", "output": "2", "context": "1 and 1"})
    with pytest.raises(StageError, match="f:1: no row has a column 'contxt'") as caught:
        require_columns(parser)
    assert "spec.dataset.columns.input" in caught.value.remedy
    parser.parse("f:3", {"instruction": "Add", "output": "2", "contxt": "1 and 1"})
    require_columns(parser)


def test_messages_as_text_in_a_cell() -> None:
    prompt, completion = ('[{"role": "user", "content": "Add 1 and 1"}]', '[{"role": "assistant", "content": "2"}]')
    assert parse({"prompt": prompt, "completion": completion}).turns == (USER, ANSWER)
    assert parse({"prompt": "[1, 2]", "completion": "2"}).turns == (USER._replace(content="[1, 2]"), ANSWER)


def test_a_conversation_of_one_answer_is_refused() -> None:
    with pytest.raises(StageError, match="only a turn of the assistant"):
        parse({"messages": [{"role": "assistant", "content": "2"}]})


def test_optional_column_may_lack() -> None:
    row = parse({"instruction": "Add 1 and 1", "output": "2"}, columns={"input": "context"})
    assert row.turns == (USER, ANSWER)


def test_format_given_and_another_found_names_both() -> None:
    with pytest.raises(StageError, match="in the format promptCompletion, not messages") as caught:
        parse({"prompt": "a", "completion": "b"}, DatasetFormat.MESSAGES)
    assert '{"messages": [' in caught.value.remedy


WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALLING = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "weather", "arguments": "{}"}}]}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "7"}


@pytest.mark.parametrize("form", [list, json.dumps], ids=["list", "text"])
def test_tools_and_calls(form: Any) -> None:
    messages = [{"role": "user", "content": "Rain?"}, CALLING, RESULT, {"role": "assistant", "content": "Yes."}]
    row = parse({"messages": messages, "tools": form([WEATHER])})
    assert row.tools == (WEATHER,)
    assert [turn.target for turn in row.turns] == [False, True, False, True]
    assert row.turns[1].calls[0]["function"] == {"name": "weather", "arguments": {}}
    assert (row.turns[2].call_id, row.turns[2].content) == ("c", "7")
    halves = {"prompt": messages[:3], "completion": messages[3:], "tools": form([WEATHER])}
    assert parse(halves).turns == (row.turns[0], row.turns[1]._replace(target=False), *row.turns[2:])


def test_other_tools_make_another_question() -> None:
    messages = [{"role": "user", "content": "Rain?"}, CALLING]
    with_tools, without = parse({"messages": messages, "tools": [WEATHER]}), parse({"messages": messages})
    assert with_tools.question[-2:] == without.question == ["user", "Rain?"]
    assert with_tools.question != without.question and "weather" in without.texts[-1]


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "functions": [WEATHER]},
        {"instruction": "a", "output": "b", "tools": [WEATHER]},
    ],
    ids=["functions", "alpaca"],
)
def test_tools_of_other_formats_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(StageError, match="only rows with messages and OpenAI's tools"):
        parse(fields)


def test_old_function_calls_are_refused() -> None:
    with pytest.raises(StageError, match=r"messages\[0\].function_call is an old form") as caught:
        parse({"messages": [{"role": "assistant", "content": None, "function_call": {"name": "f"}}]})
    assert "tool_calls: [{" in caught.value.remedy


@pytest.mark.parametrize(
    ("fields", "columns"),
    [
        (
            {"translation": {"de": "Add 1 and 1", "en": "2"}},
            {"prompt": "translation.de", "completion": "translation.en"},
        ),
        ({"q": "Add 1 and 1", "a": {"text": ["3", "2"]}}, {"prompt": "q", "completion": "a.text.1"}),
        ({"q.text": "Add 1 and 1", "q": {"text": "no"}, "a": "2"}, {"prompt": "q.text", "completion": "a"}),
    ],
)
def test_nested_columns_by_dotted_names(fields: dict[str, Any], columns: dict[str, str]) -> None:
    assert parse(fields, columns=columns).turns == (USER, ANSWER)


def test_nested_column_that_the_row_lacks() -> None:
    with pytest.raises(StageError, match=r"there is no column 'a\.text\.1' \(the row has 'q', 'a'\)"):
        parse({"q": "x", "a": {"text": ["2"]}}, columns={"prompt": "q", "completion": "a.text.1"})


@pytest.mark.parametrize(("value", "text"), [(1, "1"), (0, "0"), (-7, "-7"), (True, "true"), (False, "false")])
def test_whole_numbers_and_booleans_are_text(value: object, text: str) -> None:
    assert parse({"prompt": "q", "completion": value}).turns[-1].content == text


def test_messages_as_json_text() -> None:
    row = parse({"messages": '[{"role": "user", "content": "Add 1 and 1"}, {"role": "assistant", "content": "2"}]'})
    assert row.turns == (USER, ANSWER)


def test_weight_decides_which_turns_are_targets() -> None:
    turns = [
        {"role": "user", "content": "a", "weight": 0},
        {"role": "assistant", "content": "b", "weight": 0},
        {"role": "assistant", "content": "c", "weight": 1},
        {"role": "assistant", "content": "d", "weight": None},
    ]
    assert [turn.target for turn in parse({"messages": turns}).turns] == [False, False, True, True]


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"Question": "a", "Answer": "b"}, "columns: {prompt: Question, completion: Answer}"),
        ({"input": "a", "output": "b"}, "columns: {prompt: input, completion: output}"),
        ({"id": 1, "the text": 3, "content": "b"}, "columns: {text: content}"),
        ({"data": {"query": "a", "reply": "b"}}, "columns: {prompt: data.query, completion: data.reply}"),
        ({"chat": [{"from": "human", "value": "a"}]}, "columns: {conversations: chat}"),
    ],
)
def test_the_suggested_columns_work_when_they_are_written(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(StageError) as caught:
        parse(fields)
    assert caught.value.remedy == f"Write spec.dataset.{line}"
    columns = yaml.safe_load(line)["columns"]
    if "conversations" not in columns:
        assert parse(fields, columns=columns).location == "f:1"
