"""One cell of each method of the matrix of techniques. All of them: `make techniques`."""

import pytest

from support.technique_cells import STRATEGIES, Cell, cells, variants
from support.technique_checks import Checker
from support.technique_runs import Runs
from tunesmith_api.methods import METHODS


def one_of_each() -> list[Cell]:
    """One cell for each method: the stages of ZeRO by turns, so that all of them are among the cells."""
    stages = STRATEGIES[1:]
    found = []
    for number, method in enumerate(METHODS):
        turn = [Cell(method, stages[(number + shift) % len(stages)]) for shift in range(len(stages))]
        found.append(next(cell for cell in turn if cell.refusal() is None))
    return found


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory, runs: Runs) -> Checker:
    """A checker of all cells."""
    return Checker(tmp_path_factory.mktemp("techniques"), runs)


@pytest.mark.slow
@pytest.mark.parametrize("cell", one_of_each(), ids=lambda cell: cell.name)
def test_a_cell_ends_as_plain_torch_does_moves_every_part_and_resumes(cell: Cell, checker: Checker) -> None:
    found = checker.check(cell, ("equal", "moved", "resumed"))
    assert "refused" not in found
    assert {name: check["detail"] for name, check in found["checks"].items() if not check["passed"]} == {}


def test_the_matrix_has_every_method_with_every_strategy() -> None:
    names = {(cell.technique, cell.strategy) for cell in cells() if cell.technique in METHODS}
    assert names == {(method, strategy) for method in METHODS for strategy in STRATEGIES}
    assert set(variants()) >= {"rsLoRA", "PiSSA", "OLoRA", "LoRA+", "packing"}


def test_what_the_rules_refuse_is_told() -> None:
    assert Cell("full", "zero2").refusal() is None
    assert "zero3" in str(Cell("full", "zero2", "all").refusal())
