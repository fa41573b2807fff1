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
    "number-as-text.jsonl": (":2: ", "completion is 4, not a text", "in quotes"),
    "object.json": (": ", 'neither an array of rows nor {"data": [...]}', "Write an array of objects"),
    "open-quote.csv": (":3: ", "broken CSV", "in quotes"),
    "row-is-a-list.jsonl": (":2: ", "not an object", "Write one JSON object a line"),
    "semicolons.csv": (":2: ", "the row has 'prompt;completion'", "spec.dataset.columns"),
    "sharegpt-unknown-speaker.json": (": row 2: ", "conversations[1].from is 'bot', an unknown role", "gpt"),
    "system-not-first.jsonl": (":2: ", "the system's turn is number 2", "Move it to the front"),
    "too-many-values.csv": (":3: ", "the row has 3 values, the header 2", "in quotes"),
    "tool-calls.jsonl": (":2: ", "messages[1].tool_calls is not supported", "Remove tool_calls"),
    "truncated.parquet": (": ", "the Parquet file cannot be read", "Copy the file again"),
    "unknown-columns.jsonl": (":1: ", "the row has 'question', 'answer'", "promptCompletion: prompt, completion"),
    "unknown-kind.dat": (": ", "not a known kind of file", ".jsonl, .json, .csv or .parquet"),
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
