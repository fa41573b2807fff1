"""One cell of each purpose, and of each technique, of the table of purposes. All of them: `make purposes`.

Those whose technique an earlier one has are left to `make test-long`.
"""

from typing import Any

import pytest

from support.purpose_cells import PURPOSES, TECHNIQUES, Cell, Purpose, cells, one_of_each
from support.purpose_checks import PurposeRunner
from support.technique_runs import Runs


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory, runs: Runs) -> PurposeRunner:
    """A runner that makes each kind of base model once."""
    return PurposeRunner(tmp_path_factory.mktemp("purposes"), runs)


def chosen() -> list[Any]:
    """Return the cells as parameters."""
    found, taken = [], set()
    for cell in one_of_each():
        marks = [pytest.mark.long] if cell.technique in taken else []
        found.append(pytest.param(cell, id=cell.name, marks=marks))
        taken.add(cell.technique)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("cell", chosen())
def test_a_cell_learns_is_exported_and_answers(cell: Cell, runner: PurposeRunner) -> None:
    found = runner.run(cell)
    assert "leftOut" not in found
    assert found["failures"] == []


def test_each_row_and_each_column_has_a_cell() -> None:
    chosen = one_of_each()
    assert {cell.purpose.name for cell in chosen} == {purpose.name for purpose in PURPOSES}
    assert {cell.technique.name for cell in chosen} == {technique.name for technique in TECHNIQUES}


def test_what_is_left_out_needs_a_decoder() -> None:
    left_out = {cell.name for cell in cells() if cell.left_out}
    assert left_out == {f"{name}, QLoRA" for name in ("entities", "translation", "question answering")}


def test_a_margin_is_met_in_its_own_direction() -> None:
    rises = Purpose("", "", "encoder", "", "accuracy", 0.3, 1)
    falls = Purpose("", "", "decoder", "", "perplexity", 0.5, 1)
    assert rises.met(0.2, 0.5) and not rises.met(0.2, 0.49) and rises.met(None, 0.4)
    assert falls.met(100, 50) and not falls.met(100, 51) and not falls.met(100, None)
