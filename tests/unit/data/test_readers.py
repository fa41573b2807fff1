"""What can be read safely is read, whatever the kind of file, and the same rows come out."""

import codecs
import csv
import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tunesmith_api.failures import StageError
from tunesmith_trainer.data import lines
from tunesmith_trainer.data.json_reader import read_json_array
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


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["data.csv", "data.tsv"])
def test_the_delimiter_is_detected(tmp_path: Path, delimiter: str, name: str) -> None:
    path = tmp_path / name
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "completion"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(ROWS)
    assert rows_of(path) == ROWS
    assert locations_of(path)[0] == f"{name}:2"


def test_of_several_delimiters_the_one_that_fits_the_rows_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("prompt, long;completion\na, b, c;d\ne;f\n")
    assert rows_of(path) == [{"prompt, long": "a, b, c", "completion": "d"}, {"prompt, long": "e", "completion": "f"}]
    path.write_text('"prompt; long",completion\na;b,c\n')
    assert rows_of(path) == [{"prompt; long": "a;b", "completion": "c"}]


def test_the_line_that_names_the_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("sep=;\nprompt,x;completion\na;b\n")
    assert rows_of(path) == [{"prompt,x": "a", "completion": "b"}]
    assert locations_of(path) == ["data.csv:3"]


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
@pytest.mark.parametrize("name", ["data.jsonl.gz", "data.jsonl.zst", "data.jsonl", "data"])
def test_compressed_files_are_read_whatever_their_name(tmp_path: Path, compress: Callable, name: str) -> None:
    path = tmp_path / name
    half = len(JSONL) // 2
    path.write_bytes(compress(JSONL[:half].encode()) + compress(JSONL[half:].encode()))
    assert rows_of(path) == ROWS
    assert locations_of(path) == [f"{name}:1", f"{name}:2"]
    path.write_bytes(compress(json.dumps(ROWS).encode()))
    if name == "data":
        assert rows_of(path) == ROWS


def test_a_compressed_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    parquet.write_table(pa.Table.from_pylist(ROWS), path)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(StageError, match="a Parquet file inside a compressed one"):
        rows_of(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=3), min_size=1), data=st.data())
def test_an_array_is_read_in_pieces_as_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    value: Any = rows
    if data.draw(st.booleans()):
        before, after = data.draw(JSON), data.draw(JSON)
        value = {"version": before, "data": rows, "more": after}
    text = json.dumps(value, indent=data.draw(st.sampled_from([None, 2])), ensure_ascii=data.draw(st.booleans()))
    path = tmp_path / "rows.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    monkeypatch.setattr(lines, "PIECE_BYTES", data.draw(st.integers(1, 40)))
    if any("\ud800" <= character <= "\udfff" for character in text):
        return  # not UTF-8
    assert [row for _, row in read_json_array(path, "rows.json")] == rows
    cut = data.draw(st.integers(1, len(text) - 1))
    path.write_text(text[:cut])
    with pytest.raises(StageError, match=r"broken JSON at column|array of rows"):
        list(read_json_array(path, "rows.json"))


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ('[{"a": 1},\n {"a": 2}\n {"a": 3}]', "f:3: broken JSON at column 2", "Expecting ',' delimiter"),
        ('[{"a": 1}, {"a": 2},\n ]', "f:2: broken JSON at column 2", "comma after the last value"),
        ('[{"a": 1}, {"a": tru}]', "f:1: broken JSON at column 18", "Expecting value"),
        ('[{"a": "b]', "f:1: broken JSON at column 8", "Unterminated string"),
        ('[{"a": 1}] x', "f:1: broken JSON at column 12", "Extra data"),
        ('{"a": 1, "data": [{"b": NaN}]}', "f:1: broken JSON", "NaN is not JSON"),
        ('{"a" 1}', "f:1: broken JSON at column 6", "Expecting ':' delimiter"),
        ("[1]", "f: row 1", "the row is 1, not an object"),
        ('{"data": 3}', "f: the file holds neither", "an array of rows"),
    ],
)
def test_a_broken_array_is_located(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, text: str, place: str, problem: str
) -> None:
    monkeypatch.setattr(lines, "PIECE_BYTES", piece)
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(StageError) as caught:
        list(read_json_array(path, "f"))
    assert caught.value.message.startswith(place)
    assert problem in caught.value.message


@pytest.mark.parametrize("piece", [1, 5, 1 << 20])
def test_a_bad_byte_of_a_long_line_is_located(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(lines, "PIECE_BYTES", piece)
    path = tmp_path / "f.json"
    path.write_bytes('[{"a": 1},\n {"é": "'.encode() + b"\xff" + b'"}]')
    with pytest.raises(StageError, match=r"f:2: byte 10 \(0xff\) is not UTF-8"):
        list(read_json_array(path, "f"))
    path.write_bytes('[{"a": "é"}]'.encode()[:9])
    with pytest.raises(StageError, match=r"f:1: byte 9 \(0xc3\) is not UTF-8"):
        list(read_json_array(path, "f"))


def test_a_long_array_in_one_line_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    row = json.dumps({"text": "word " * 200})
    path.write_text("[" + ", ".join([row] * 30_000) + "]")
    assert path.stat().st_size > 24 << 20
    tracemalloc.start()
    count = sum(1 for _ in read_json_array(path, "f"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 30_000
    assert peak < 12 << 20, peak


def test_a_row_of_an_array_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith_trainer.data.json_reader.MAX_ROW_BYTES", 1000)
    monkeypatch.setattr(lines, "PIECE_BYTES", 100)
    path = tmp_path / "f.json"
    path.write_text(json.dumps([{"text": "a"}, {"text": "b" * 5000}]))
    rows = read_json_array(path, "f")
    assert next(rows)[1] == {"text": "a"}
    with pytest.raises(StageError, match="f:1: the row is longer than"):
        next(rows)
