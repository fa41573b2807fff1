"""Arbitrary and damaged files give rows or one StageError, never another exception."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tunesmith_api.failures import StageError
from tunesmith_api.spec import DatasetFormat
from tunesmith_trainer.data.formats import FORMATS, RowParser
from tunesmith_trainer.data.sources import Dataset, SourceFile

FAST = settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

GOOD = [
    {"messages": [{"role": "user", "content": "Hé"}, {"role": "assistant", "content": "Hi"}]},
    {"prompt": "a", "completion": "b"},
    {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]},
    {"instruction": "i", "input": "", "output": "o"},
    {"text": "t"},
]

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["user", "gpt"])
)
keys = st.sampled_from(
    ["messages", "role", "content", "prompt", "completion", "conversations", "from", "value", "text", "tools", "type"]
    + ["question", "answer", "translation", "chosen", "rejected", "weight", "tool_calls", "images"]
) | st.text(max_size=4)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=12
)


def read(path: Path, data: bytes, name: str, wanted: DatasetFormat = DatasetFormat.AUTO) -> int:
    """Read all rows; return how many there are, or -1 for a refusal, whose message must name the file."""
    path.write_bytes(data)
    try:
        return len(list(Dataset([SourceFile(name, path, "")], RowParser(wanted, None))))
    except StageError as error:
        assert error.message.startswith(name)
        assert error.remedy
        error.message.encode()
        return -1


@FAST
@given(data=st.binary(max_size=300), ending=st.sampled_from(["jsonl", "json", "csv", "tsv", "txt", "jsonl.gz"]))
@example(data=b'"' + b"\r" * 3 + b"\x00", ending="csv")
@example(data=b"a,b\n\x00,\r\r\n", ending="csv")
@example(data=b"sep=\r\na;b\n", ending="csv")
@example(data=b"\x1f\x8b\x08\x00", ending="jsonl.gz")
@example(data=b"\x28\xb5\x2f\xfd\x00", ending="csv")
def test_arbitrary_bytes(tmp_path: Path, data: bytes, ending: str) -> None:
    read(tmp_path / "f", data, f"f.{ending}")


@FAST
@given(
    rows=st.lists(st.sampled_from(GOOD), min_size=1, max_size=4),
    edits=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 3), st.binary(min_size=1, max_size=3)), max_size=4),
    ending=st.sampled_from(["jsonl", "json", "csv"]),
)
def test_damaged_jsonl(tmp_path: Path, rows: list[dict], edits: list[tuple[int, int, bytes]], ending: str) -> None:
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    for position, dropped, inserted in edits:
        at = position % (len(data) + 1)
        data = data[:at] + inserted + data[at + dropped :]
    read(tmp_path / "f", data, f"f.{ending}")


@FAST
@given(rows=st.lists(values, min_size=1, max_size=3), wanted=st.sampled_from([DatasetFormat.AUTO, *FORMATS]))
def test_arbitrary_json_values(tmp_path: Path, rows: list[Any], wanted: DatasetFormat) -> None:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    read(tmp_path / "f", data, "f.jsonl", wanted)


@FAST
@given(value=values, form=st.sampled_from(range(len(GOOD))), column=st.integers(0, 2))
def test_arbitrary_values_in_good_rows(tmp_path: Path, value: object, form: int, column: int) -> None:
    row = dict(GOOD[form])
    row[list(row)[column % len(row)]] = value
    read(tmp_path / "f", (json.dumps(GOOD[form]) + "\n" + json.dumps(row) + "\n").encode(), "f.jsonl")


@settings(FAST, max_examples=300)
@given(
    cut=st.integers(0, 2000),
    flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), max_size=3),
    zstd=st.booleans(),
)
def test_damaged_compressed_file(tmp_path: Path, cut: int, flips: list[tuple[int, int]], zstd: bool) -> None:
    import pyarrow as pa

    text = "".join(json.dumps({"prompt": f"p{n}", "completion": "c" * n}) + "\n" for n in range(1, 40)).encode()
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd" if zstd else "gzip") as stream:
        stream.write(text)
    data = bytearray(sink.getvalue().to_pybytes())
    for position, flip in flips:
        data[position % len(data)] ^= flip
    read(tmp_path / "f", bytes(data[: cut % (2 * len(data)) or None]), "f.jsonl.zst" if zstd else "f.jsonl.gz")


@settings(FAST, max_examples=200)
@given(cut=st.integers(0, 100_000), flips=st.lists(st.tuples(st.integers(0, 100_000), st.integers(1, 255)), max_size=3))
def test_damaged_parquet(tmp_path: Path, cut: int, flips: list[tuple[int, int]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "f"
    parquet.write_table(pa.Table.from_pylist([{"prompt": f"p{i}", "completion": "c" * i} for i in range(1, 40)]), path)
    data = bytearray(path.read_bytes())
    for position, flip in flips:
        data[position % len(data)] ^= flip
    read(path, bytes(data[: cut % (2 * len(data)) or None]), "f.parquet")


def test_good_rows_are_read(tmp_path: Path) -> None:
    for row in GOOD:
        assert read(tmp_path / "f", (json.dumps(row) + "\n").encode() * 3, "f.jsonl") == 3


@pytest.mark.parametrize("row", GOOD, ids=lambda row: next(iter(row)))
def test_every_cut_of_a_good_row_is_refused(tmp_path: Path, row: dict) -> None:
    line = json.dumps(row, ensure_ascii=False).encode()
    for end in range(1, len(line)):
        assert read(tmp_path / "f", line[:end], "f.jsonl") == -1
