"""What can be read safely is read, whatever the kind of file, and the same rows come out."""

import codecs
import csv
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tunesmith_api.failures import StageError
from tunesmith_trainer.data.readers import kind_of, read_rows

ROWS = [
    {"prompt": "What is 1 + 1?", "completion": "It is 2."},
    {"prompt": 'Grüße, "Welt"?', "completion": "東京 🙂\nsecond line"},
]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def rows_of(path: Path) -> list[dict]:
    return [row for _, row in read_rows(path, path.name)]


def locations_of(path: Path) -> list[str]:
    return [location for location, _ in read_rows(path, path.name)]


@pytest.mark.parametrize(
    "data",
    [
        JSONL.encode(),
        codecs.BOM_UTF8 + JSONL.encode(),
        JSONL.replace("\n", "\r\n").encode(),
        codecs.BOM_UTF8 + JSONL.replace("\n", "\r\n").encode(),
        JSONL.rstrip().encode(),
        ("\n" + JSONL.replace("\n", "\n\n")).encode(),
    ],
    ids=["clean", "bom", "crlf", "bom and crlf", "no end of line", "blank lines"],
)
def test_jsonl_variants_are_equal(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(data)
    assert rows_of(path) == ROWS


@pytest.mark.parametrize("name", ["data.json", "data", "data.txt"])
def test_json_lines_and_arrays_are_told_apart_by_content(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(JSONL)
    assert rows_of(path) == ROWS
    path.write_text(json.dumps(ROWS))
    assert rows_of(path) == ROWS
    path.write_text(json.dumps({"data": ROWS}, indent=2))
    assert rows_of(path) == ROWS
    path.write_bytes(codecs.BOM_UTF8 + json.dumps(ROWS, indent=2).replace("\n", "\r\n").encode())
    assert rows_of(path) == ROWS


def write_csv(path: Path, encoding: str = "utf-8") -> None:
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(ROWS)


def test_csv_with_quotes_line_breaks_and_bom(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    for encoding in ("utf-8", "utf-8-sig"):
        write_csv(path, encoding)
        assert rows_of(path) == ROWS
    assert locations_of(path) == ["data.csv:2", "data.csv:3"]


def test_location_after_a_value_of_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text('prompt,completion\na,"one\ntwo"\nb,c\n')
    assert locations_of(path) == ["data.csv:2", "data.csv:4"]


def test_parquet_by_ending_and_by_content(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    parquet.write_table(pa.Table.from_pylist(ROWS * 3000), path)
    assert rows_of(path) == ROWS * 3000
    assert locations_of(path)[-1] == "data.parquet: row 6000"
    path = path.rename(tmp_path / "data")
    assert kind_of(path, "data") == "parquet"


def test_blank_lines_count(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('\n{"a": 1}\n\n{"a": 2}\n')
    assert locations_of(path) == ["data.jsonl:2", "data.jsonl:4"]


def test_a_row_of_exactly_the_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = '{"text": "' + "x" * 100 + '"}\n'
    monkeypatch.setattr("tunesmith_trainer.data.lines.MAX_ROW_BYTES", len(row))
    path = tmp_path / "data.jsonl"
    path.write_text(row)
    assert len(rows_of(path)) == 1
    path.write_text(row.replace("xx", "xxx"))
    with pytest.raises(StageError, match="longer than"):
        rows_of(path)
