"""Each bad data file gives one error that says where, what, and what to write instead."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import DatasetFormat
from tunesmith_trainer.data.formats import RowParser
from tunesmith_trainer.data.lines import MAX_ROW_BYTES
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.sources import Dataset, SourceFile

FOLDER = Path(__file__).parents[2] / "data" / "bad-data"

# file: (location, what is wrong, remedy)
EXPECTED = {
    "ambiguous-delimiter.csv": (":1: ", "the header contains comma (',') and semicolon (';')", "the line sep=,"),
    "comma-after-row.jsonl": (":2: ", "broken JSON at column 48: there is a comma after the row", "Remove the comma"),
    "conversation.jsonl": (
        ":1: ",
        "the row has 'conversation'",
        "Write spec.dataset.columns: {messages: conversation}",
    ),
    "half-a-weight.jsonl": (":2: ", "messages[1].weight is 0.5", "Write 1 to learn the turn, 0"),
    "image-column.jsonl": (":1: ", "images: images and other media are not supported", "Remove the column images"),
    "image.jsonl": (":2: ", "messages[0].content[0] is of type image_url: images", "Write text only"),
    "instruction-response.jsonl": (":1: ", "not recognised", "spec.dataset.columns: {output: response}"),
    "messages-as-python.csv": (":2: ", "messages is not valid JSON: it is a Python list", "json.dumps"),
    "messages-not-json.csv": (":2: ", "messages is not valid JSON: Expecting ',' delimiter", '"role": "user"'),
    "nul-byte.jsonl": (":2: ", "byte 17 is a NUL byte", "tr -d '\\000'"),
    "preference-conversations.jsonl": (":1: ", "this is preference data (chosen, rejected)", "{messages: chosen}"),
    "preference.jsonl": (":1: ", "this is preference data (chosen, rejected)", "columns: {completion: chosen}"),
    "python-dictionaries.jsonl": (":1: ", "there is a single quote", "json.dumps"),
    "python-none.jsonl": (":2: ", "this is a Python value, not JSON", "Write null, true or false"),
    "tool-call-without-content.jsonl": (":2: ", "messages[1].tool_calls[0] is {'id': '1'}, not the call", "Write {"),
    "tool-arguments.jsonl": (
        ":2: ",
        "messages[1].tool_calls[0].function.arguments is not JSON: ",
        "the text of an object",
    ),
    "tool-definitions.jsonl": (":2: ", "tools[0].function is None, not an object", 'Write {"type": "function"'),
    "tool-result-of-no-call.jsonl": (
        ":2: ",
        "messages: turn 3 is the result of the call 'c2', which no turn before it made",
        "Write the id of a call",
    ),
    "tool-unknown.jsonl": (":2: ", "turn 2 calls 'now', which is not in tools (weather)", "Add the function to tools"),
    "trailing-comma.jsonl": (":2: ", "there is a comma after the last value", "Remove the comma before the closing"),
    "translation.jsonl": (":1: ", "not recognised", "columns: {prompt: translation.de, completion: translation.en}"),
    "truncated.jsonl.gz": (": ", "the compressed file is damaged", "Copy the file again"),
    "utf-16-without-mark.jsonl": (": ", "the file seems to be UTF-16", "iconv"),
    "weight-0-everywhere.jsonl": (":1: ", "no turn of the assistant is learned (weight 0", "Write weight: 1"),
    "weight-of-a-user.jsonl": (":1: ", "messages[0].weight is 1, but the turn is not the assistant's", "Remove it"),
    "workbook.xlsx": (": ", "ZIP (a ZIP archive or an Excel workbook)", "save the sheet as CSV"),
    "alpaca-no-output.json": (": row 2: ", "output is null", "Write its text"),
    "blank-lines-only.jsonl": (": ", "the file is empty", "one JSON object a line"),
    "broken-json-in-the-middle.jsonl": (":3: ", "broken JSON at column 54", "Write one JSON object a line"),
    "broken.json": (":3: ", "broken JSON at column 18", "Write an array of objects"),
    "double-column.csv": (":1: ", "column 'prompt' is there twice", "Rename one"),
    "empty-answer.jsonl": (":2: ", "completion is empty", "or remove the row"),
    "empty-file.jsonl": (": ", "the file is empty", "Write at least two rows"),
    "half-a-surrogate.jsonl": (":2: ", "completion has half a surrogate pair", "Write the whole character"),
    "header-only.csv": (": ", "the file has no rows", "Write at least two rows"),
    "message-is-a-text.jsonl": (":2: ", "messages[0] is 'Hello', not an object", '{"role": "user"'),
    "messages-null.jsonl": (":2: ", "messages is null", '{"role": "user"'),
    "missing-column.jsonl": (":2: ", "completion is missing", '"completion": "..."'),
    "mixed-formats.jsonl": (":3: ", "format messages, not promptCompletion as in mixed-formats.jsonl:1", "one format"),
    "nan.jsonl": (":2: ", "NaN is not JSON", "Write a number, a text or null"),
    "no-assistant-turn.jsonl": (":2: ", "messages has no turn of the assistant", "Add the assistant's answer"),
    "no-messages.jsonl": (":2: ", "messages is empty", "Write at least"),
    "null-content.jsonl": (":2: ", "messages[1].content is null", "Write its text"),
    "null-value.parquet": (": row 2: ", "completion is null", "Write its text"),
    "number-as-text.jsonl": (":2: ", "completion is 4.5, not a text", "in quotes"),
    "object.json": (": ", 'neither an array of rows nor {"data": [...]}', "Write an array of objects"),
    "open-quote.csv": (":3: ", "broken CSV", "in quotes"),
    "row-is-a-list.jsonl": (":2: ", "not an object", "Write one JSON object a line"),
    "sharegpt-unknown-speaker.json": (": row 2: ", "conversations[1].from is 'bot', an unknown role", "gpt"),
    "system-not-first.jsonl": (":2: ", "the system's turn is number 2", "Move it to the front"),
    "too-many-values.csv": (":3: ", "the row has 3 values, the header 2", "in quotes"),
    "tool-calls.jsonl": (":2: ", "messages[1].tool_calls[0] is {'name': 'weather'}, not the call", "Write {"),
    "truncated.parquet": (": ", "the Parquet file cannot be read", "Copy the file again"),
    "unknown-columns.jsonl": (
        ":1: ",
        "the row has 'question', 'answer'",
        "Write spec.dataset.columns: {prompt: question, completion: answer}",
    ),
    "unknown-kind.dat": (": ", "not a known kind of file", ".jsonl, .ndjson, .json, .csv, .tsv, .parquet"),
    "unknown-role.jsonl": (":2: ", "messages[1].role is 'asistant', an unknown role", "system, developer, user"),
    "utf-16.jsonl": (": ", "the file is UTF-16, not UTF-8", "iconv"),
    "wrong-encoding.jsonl": (":2: ", "byte 20 (0xdf) is not UTF-8", "iconv"),
}


def read_all(path: Path) -> list[Row]:
    """All rows of a file, checked, in the format of the first."""
    return list(Dataset([SourceFile(path.name, path, "")], RowParser(DatasetFormat.AUTO, None)))


def failure(path: Path) -> StageError:
    with pytest.raises(StageError) as caught:
        read_all(path)
    assert caught.value.reason is Reason.INVALID_DATASET
    return caught.value


def test_every_bad_file_is_expected() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_bad_file(name: str) -> None:
    location, problem, remedy = EXPECTED[name]
    error = failure(FOLDER / name)
    assert error.message.startswith(name + location)
    assert problem in error.message
    assert remedy in error.remedy
    assert "\n" not in str(error)


def test_huge_row(tmp_path: Path) -> None:
    path = tmp_path / "huge.jsonl"
    good = '{"prompt": "a", "completion": "b"}\n'
    path.write_text(good + json.dumps({"prompt": "x" * MAX_ROW_BYTES, "completion": "b"}) + "\n")
    error = failure(path)
    assert error.message == "huge.jsonl:2: the row is longer than 16 MiB"
    assert "Split it" in error.remedy


def test_huge_value_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "huge.parquet"
    parquet.write_table(pa.table({"text": ["short", "x" * (MAX_ROW_BYTES + 1)]}), path)
    assert failure(path).message == "huge.parquet: row 2: the row is longer than 16 MiB"


def test_deep_nesting(tmp_path: Path) -> None:
    path = tmp_path / "deep.jsonl"
    path.write_text('{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    assert failure(path).message == "deep.jsonl:1: the JSON is nested too deeply"


def test_number_of_thousands_of_digits(tmp_path: Path) -> None:
    path = tmp_path / "number.jsonl"
    path.write_text('{"prompt": "a", "completion": ' + "9" * 5000 + "}\n")
    assert failure(path).message.startswith("number.jsonl:1: broken JSON: Exceeds the limit")
