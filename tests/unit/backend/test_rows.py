"""The rows of a job, estimated from files that are at hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.spec import TrainingJobSpec
from tunesmith_backend.plan import rows
from tunesmith_backend.plan.rows import RowEstimate, estimate_rows


def estimate(*sources: dict[str, Any], max_length: int = 1024, maps: Any = None, **validation: Any) -> RowEstimate:
    dataset = {"sources": list(sources), **({"validation": validation} if validation else {})}
    spec = {"model": {"uri": "hf://a/b"}, "dataset": dataset, "training": {"maxLength": max_length}}
    return estimate_rows(TrainingJobSpec.model_validate(spec), maps or {}, "default")


def lines(path: Path, *lengths: int) -> Path:
    path.write_text("".join(json.dumps({"text": "x" * (length - 12)}) + "\n" for length in lengths))
    return path


def test_lines_are_counted_and_their_lengths_taken_from_their_bytes(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", *[400] * 99, 800)
    found = estimate({"uri": str(path)}, fraction=0.1)
    assert found.rows == 90
    assert found.longest == 200
    assert found.mean == pytest.approx(101)
    assert "4 bytes each" in found.note


def test_no_row_is_longer_than_max_length(tmp_path: Path) -> None:
    found = estimate({"uri": str(lines(tmp_path / "a.jsonl", 400, 9000))}, max_length=128)
    assert (found.longest, found.mean) == (128, pytest.approx(114))


def test_several_sources_and_patterns(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", 40, 40, 40)
    (tmp_path / "b.csv").write_text('prompt,completion\n"two\nlines",yes\nno,no\n')
    (tmp_path / "c.json").write_text(json.dumps([{"text": "a"}, {"text": "b"}, {"text": "c"}]))
    assert estimate({"uri": str(tmp_path / "a.jsonl")}, {"uri": str(tmp_path / "c.json")}, fraction=0.2).rows == 5
    assert estimate({"uri": str(tmp_path / "*.csv")}, {"uri": f"file://{tmp_path}/a.jsonl"}, fraction=0.2).rows == 4
    assert estimate({"uri": str(tmp_path)}, fraction=0.125).rows == 7
    separate = {"sources": [{"uri": str(tmp_path / "a.jsonl")}]}
    assert estimate({"uri": str(tmp_path / "c.json")}, **separate).rows == 3


def test_a_config_map_is_read_from_the_manifests() -> None:
    source = {"configMapKeyRef": {"name": "my-data", "key": "rows.jsonl"}}
    maps = {("default", "my-data"): {"rows.jsonl": b'{"a": 1}\n\n' * 10}}
    assert estimate(source, maps=maps, fraction=0.1).rows == 9
    assert estimate(source, maps={}, fraction=0.1).rows is None


def test_of_a_large_file_the_beginning_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path / "a.jsonl", *[400] * 1000)
    monkeypatch.setattr(rows, "_SAMPLE", 10_000)
    found = estimate({"uri": str(path)}, fraction=0.0001)
    assert found.rows == pytest.approx(999, rel=0.01)
    assert found.mean == pytest.approx(100)
    assert "rows estimated from the first" in found.note


@pytest.mark.parametrize("uri", ["s3://bucket/rows.jsonl", "hf://datasets/a/b", "/no/such/rows.jsonl", "rows.jsonl.gz"])
def test_what_is_not_at_hand_is_taken_as_long_as_it_may_be(tmp_path: Path, uri: str) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(b"\x1f\x8b")
    found = estimate({"uri": uri.replace("rows.jsonl.gz", str(tmp_path / "rows.jsonl.gz"))}, max_length=512)
    assert (found.rows, found.longest, found.mean) == (None, 512, 512)
    assert "maxLength" in found.note
