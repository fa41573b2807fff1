"""What is kept of each row does not grow in memory, and is found again as if it were all in memory."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tunesmith_trainer.data.held_out import HeldOutRows
from tunesmith_trainer.data.length_counts import LengthCounts
from tunesmith_trainer.data.report import RowIndex, first_rows
from tunesmith_trainer.data.rows import Row, Turn
from tunesmith_trainer.data.token_store import TokenStore, TokenStoreWriter, read_array, read_rows
from tunesmith_trainer.prepare.split import held_out_rows
from tunesmith_trainer.storage import number_column
from tunesmith_trainer.storage.number_column import NumberColumn


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred rows are as many as millions otherwise: buffers are written, keys have several parts."""
    monkeypatch.setattr(number_column, "_BUFFER", 16)
    monkeypatch.setattr(number_column, "CHUNK", 50)
    monkeypatch.setattr(first_rows, "_KEYS", 64)


def rows_of(count: int, seed: int = 0, name: str = "f") -> list[Row]:
    """Rows of which many are equal, or have equal prompts."""
    random = Random(seed)
    pairs = [(f"q{random.randrange(60)}", f"a{random.randrange(8)}") for _ in range(count)]
    return [
        Row(f"{name}:{number}", (Turn("user", prompt, False), Turn("assistant", answer, True)))
        for number, (prompt, answer) in enumerate(pairs, 1)
    ]


def index_of(rows: list[Row]) -> RowIndex:
    index = RowIndex()
    for row in rows:
        index.add(row)
    return index


def found(pairs: Iterator[tuple[Row, Row]]) -> dict[str, object]:
    every = [[later.location, earlier.location] for later, earlier in pairs]
    return {"rows": len(every), "examples": every[:10]}


@pytest.mark.usefixtures("small_chunks")
def test_findings_are_those_of_all_rows_in_memory() -> None:
    rows, others = rows_of(700), rows_of(90, seed=1, name="v")
    index = index_of(rows)
    first_text: dict[object, Row] = {}
    first_prompt: dict[str, Row] = {}
    for row in rows:
        first_text.setdefault(row.turns, row)
        first_prompt.setdefault(row.turns[0].content, row)
    assert index.duplicates() == found((row, first_text[row.turns]) for row in rows if first_text[row.turns] != row)
    asked = ((row, first_prompt[row.turns[0].content]) for row in rows)
    assert index.contradictions() == found((row, first) for row, first in asked if row.turns != first.turns)
    held_out = held_out_rows(len(rows), 0.2, seed=3)
    trained: dict[object, Row] = {}
    for number, row in enumerate(rows):
        if number not in held_out:
            trained.setdefault(row.turns, row)
    kept = [row for number, row in enumerate(rows) if number in held_out]
    assert len(kept) == 140
    assert index.overlap(held_out, None) == found((row, trained[row.turns]) for row in kept if row.turns in trained)
    overlap = index.overlap(HeldOutRows(len(rows)), index_of(others))
    assert overlap == found((row, first_text[row.turns]) for row in others if row.turns in first_text)


@pytest.mark.usefixtures("small_chunks")
def test_a_column_is_what_was_appended(tmp_path: Path) -> None:
    column = NumberColumn("Q", tmp_path / "new")
    numbers = [number**7 for number in range(333)]
    for number in numbers:
        column.append(number)
    chunks = list(column.chunks())
    assert np.concatenate([chunk for _, chunk in chunks]).tolist() == numbers
    assert [start for start, _ in chunks[:3]] == [0, 50, 100]
    assert [column[index] for index in (0, 51, 332)] == [numbers[0], numbers[51], numbers[332]]
    assert list((tmp_path / "new").iterdir()) == [], "its file has no name, so a killed process leaves none"


def test_a_split_in_blocks_is_as_large_and_has_no_row_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = held_out_rows(1000, 0.05, seed=1)
    monkeypatch.setattr("tunesmith_trainer.prepare.split._BLOCK", 300)
    split = held_out_rows(1000, 0.05, seed=1)
    assert len(split) == len(whole) == 50
    assert [sum(split.mask(start, start + 300)[:300]) for start in (0, 300, 600, 900)] == [15, 15, 15, 5]
    assert [number for number in range(1000) if number in split] == np.flatnonzero(split.mask(0, 1000)).tolist()


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.95, 1.0])
def test_quantiles_are_numpys(share: float) -> None:
    random = Random(2)
    for _ in range(200):
        lengths = [random.randrange(1, 40) for _ in range(random.randrange(1, 30))]
        assert LengthCounts(lengths).quantile(share) == np.percentile(lengths, 100 * share)


def test_a_store_is_in_numpys_format(tmp_path: Path) -> None:
    examples = [([1, 2, 3], [0, 1, 1]), ([4], [1]), ([], []), ([5, 6], [0, 0])]
    with TokenStoreWriter(tmp_path / "rows") as writer:
        for ids, mask in examples:
            writer.add(ids, mask)
    assert (writer.rows, writer.tokens, writer.learned, writer.longest) == (4, 6, 3, 3)
    arrays = {
        "tokens": np.array([1, 2, 3, 4, 5, 6], np.int32),
        "mask": np.array([0, 1, 1, 1, 0, 0], np.uint8),
        "offsets": np.array([0, 3, 4, 4, 6]),
    }
    for name, array in arrays.items():
        np.save(tmp_path / "expected.npy", array)
        assert (tmp_path / "rows" / f"{name}.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()
        assert np.concatenate(list(read_array(tmp_path / "rows" / f"{name}.npy"))).tolist() == array.tolist()
    assert [row.tolist() for row in read_rows(tmp_path / "rows")] == [ids for ids, _ in examples]
    assert TokenStore.open(tmp_path / "rows").lengths.tolist() == [3, 1, 0, 2]


@pytest.mark.usefixtures("small_chunks")
def test_ten_times_the_rows_take_no_more_memory(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        index = RowIndex(tmp_path)
        random = Random(0)
        tracemalloc.start()
        with TokenStoreWriter(tmp_path / str(rows)) as writer:
            for number in range(rows):
                prompt, answer = f"question {random.random()}", f"answer {number}"
                index.add(Row(f"f:{number}", (Turn("user", prompt, False), Turn("assistant", answer, True))))
                writer.add([1, 2, 3, 4], [0, 0, 1, 1])
        held_out = held_out_rows(rows, 0.05, seed=0)
        index.duplicates(), index.contradictions(), index.overlap(held_out, None)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    few, many = peak(500), peak(5000)
    # What grows is the permutation of the split (8 bytes a row) and one bit a row.
    assert many - few < 5000 * 16, (few, many)
