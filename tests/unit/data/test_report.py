"""The data report counts what is there, names where it is, and shows what the model will see."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.tiny_models import train_tokenizer
from tunesmith_api.spec import DatasetFormat
from tunesmith_trainer.data.encode import Encoder
from tunesmith_trainer.data.encoding_log import Outcome
from tunesmith_trainer.data.formats import RowParser
from tunesmith_trainer.data.held_out import HeldOutRows
from tunesmith_trainer.data.length_counts import LengthCounts
from tunesmith_trainer.data.report import RowIndex, build_report
from tunesmith_trainer.data.report.lengths import describe_lengths
from tunesmith_trainer.data.report.samples import encoded_samples, plain_samples
from tunesmith_trainer.data.rows import Row, Turn
from tunesmith_trainer.data.sources import Dataset, SourceFile


def pair(prompt: str, answer: str, location: str) -> Row:
    return Row(location, (Turn("user", prompt, False), Turn("assistant", answer, True)))


def index_of(*pairs: tuple[str, str], name: str = "f") -> RowIndex:
    index = RowIndex()
    for number, (prompt, answer) in enumerate(pairs, 1):
        index.add(pair(prompt, answer, f"{name}:{number}"))
    return index


def report_of(
    path: Path, rows: list[dict[str, Any]], wanted: DatasetFormat = DatasetFormat.AUTO, **columns: str
) -> Any:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    parser = RowParser(wanted, columns)
    index = RowIndex()
    for row in Dataset([SourceFile(path.name, path, "")], parser):
        index.add(row)
    return build_report(parser, wanted, index, None, HeldOutRows.of([0], len(index)), [])


def test_duplicates_and_contradictions() -> None:
    index = index_of(("a", "1"), ("b", "1"), ("a", "1"), ("a", "2"), ("b", "1"), ("c", "1"))
    assert index.duplicates() == {"rows": 2, "examples": [["f:3", "f:1"], ["f:5", "f:2"]]}
    assert index.contradictions() == {"rows": 1, "examples": [["f:4", "f:1"]]}


def test_a_row_is_not_equal_where_texts_only_join_to_the_same() -> None:
    index = index_of(("ab", "c"), ("a", "bc"))
    assert index.duplicates()["rows"] == index.contradictions()["rows"] == 0


def test_plain_texts_are_repeated_but_contradict_nothing() -> None:
    index = RowIndex()
    for number, text in enumerate(["x", "y", "x"], 1):
        index.add(Row(f"data: row {number}", text=text))
    assert index.duplicates() == {"rows": 1, "examples": [["data: row 3", "data: row 1"]]}
    assert index.contradictions()["rows"] == 0


def test_validation_rows_that_are_training_rows() -> None:
    train = index_of(("a", "1"), ("b", "1"), ("c", "1"), ("a", "1"))
    assert train.overlap(HeldOutRows.of([0], 4), None) == {"rows": 1, "examples": [["f:1", "f:4"]]}
    assert train.overlap(HeldOutRows.of([0, 3], 4), None)["rows"] == 0
    validation = index_of(("z", "1"), ("c", "1"), ("c", "2"), name="v")
    assert train.overlap(HeldOutRows(4), validation) == {"rows": 1, "examples": [["v:2", "f:3"]]}


def test_only_the_first_locations_are_kept() -> None:
    found = index_of(*[("a", "1")] * 30).duplicates()
    assert (found["rows"], len(found["examples"])) == (29, 10)


def test_format_and_columns(tmp_path: Path) -> None:
    rows = [
        {"instruction": "a", "context": "b", "output": "c", "id": 1},
        {"instruction": "a", "output": "c", "note": 1},
    ]
    report = report_of(tmp_path / "f.jsonl", rows)
    assert (report["format"], report["formatReason"]) == (
        "alpaca",
        "the first row has the columns instruction and output",
    )
    assert report["columns"] == {"instruction": "instruction", "output": "output"}
    assert report["unusedColumns"] == [
        {"name": "context", "suggestion": "columns: {input: context}"},
        {"name": "id", "suggestion": None},
        {"name": "note", "suggestion": None},
    ]
    report = report_of(tmp_path / "f.jsonl", rows, DatasetFormat.ALPACA, input="context")
    assert report["formatReason"] == "spec.dataset.format says so"
    assert report["columns"]["input"] == "context"
    assert [column["name"] for column in report["unusedColumns"]] == ["id", "note"]


def test_columns_that_look_like_another_format(tmp_path: Path) -> None:
    report = report_of(tmp_path / "f.jsonl", [{"text": "q: a", "question": "q", "answer": "a"}] * 2)
    line = "format: promptCompletion, columns: {prompt: question, completion: answer}"
    assert report["unusedColumns"] == [
        {"name": "question", "suggestion": line},
        {"name": "answer", "suggestion": line},
    ]


def test_nested_columns_count_as_used(tmp_path: Path) -> None:
    rows = [{"translation": {"de": "a", "en": "b"}, "id": 1}] * 2
    report = report_of(tmp_path / "f.jsonl", rows, prompt="translation.de", completion="translation.en")
    assert [column["name"] for column in report["unusedColumns"]] == ["id"]


@pytest.mark.parametrize("lengths", [[3], [0, 1, 2], list(range(1000)), [5, 100_000], [7] * 50])
def test_every_row_is_in_the_histogram_once(lengths: list[int]) -> None:
    found = describe_lengths(LengthCounts(lengths), "tokens", 512)
    bins = found["histogram"]
    assert len(bins) <= 14
    for item in bins:
        assert item["rows"] == sum(item["from"] <= length <= item["to"] for length in lengths)
    assert sum(item["rows"] for item in bins) == len(lengths)
    assert (found["shortest"], found["longest"], found["total"]) == (min(lengths), max(lengths), sum(lengths))
    assert found["median"] == int(np.median(lengths))
    assert found["percentile95"] == int(np.percentile(lengths, 95))


def test_what_is_shortened_and_skipped_is_located() -> None:
    long = tuple(
        turn for n in range(9) for turn in (Turn("user", f"q{n} " * 9, False), Turn("assistant", f"a{n} " * 9, True))
    )
    rows = [pair("a", "b", "f:1"), Row("f:2", long), pair("dog " * 150, "x", "f:3")]
    encoder = Encoder(train_tokenizer(), 120)
    assert [len(pieces) for pieces in encoder.encode(rows)] == [1, 1, 0]
    assert encoder.log.locations[Outcome.TRUNCATED] == ["f:2"]
    assert encoder.log.locations[Outcome.SKIPPED] == ["f:3"]
    whole = Encoder(train_tokenizer(), 10_000)
    assert encoder.log.lengths == LengthCounts(len(pieces[0].ids) for pieces in whole.encode(rows))
    texts = Encoder(train_tokenizer(), 20)
    list(texts.encode([Row("f:1", text="dog " * 90), Row("f:2", text="dog")]))
    assert texts.log.locations[Outcome.SPLIT] == ["f:1"]


def test_samples_show_special_tokens_and_targets() -> None:
    [sample] = encoded_samples(Encoder(train_tokenizer(), 100), [pair("Hello", "Hi there", "f:1")])
    assert sample["location"] == "f:1"
    assert "".join(piece["text"] for piece in sample["pieces"]) == (
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi there<|im_end|>\n"
    )
    targets = [(piece["text"], piece["special"]) for piece in sample["pieces"] if piece["target"]]
    assert targets == [("Hi there", False), ("<|im_end|>", True)]
    assert all(piece["special"] == piece["text"].startswith("<|") for piece in sample["pieces"])


def test_samples_without_a_tokenizer_are_turns() -> None:
    rows = [pair("Hello", "Hi", "f:1"), Row("f:2", text="plain")]
    first, second = plain_samples(rows)
    assert [(piece["role"], piece["text"], piece["target"]) for piece in first["pieces"]] == [
        ("user", "Hello", False),
        ("assistant", "Hi", True),
    ]
    assert second["pieces"][0]["text"] == "plain"
