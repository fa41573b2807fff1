"""A real model learns to classify by the product: a short cut of `make bench-minilm`."""

from pathlib import Path

import pytest

from support.minilm import fine_tune, logistic_regression, rows
from support.technique_runs import Runs


@pytest.mark.long  # the cell of classification does so with another model
@pytest.mark.slow
def test_a_fine_tuned_minilm_is_as_good_as_a_regression_on_its_embeddings(tmp_path: Path, runs: Runs) -> None:
    data = rows(400, 100)
    accuracy, difference = fine_tune(tmp_path / "job", runs, data, 50)
    assert accuracy >= logistic_regression(*data)
    assert difference <= 1e-4
