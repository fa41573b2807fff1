"""Tasks learn what a plain script of transformers' Trainer learns. All of them: `make oracles`."""

from pathlib import Path

import pytest

from oracles.compare import ORACLES, Oracle, compare, same
from support.technique_runs import Runs

SMALL = ORACLES[:1]  # the others take a minute and more each


@pytest.mark.slow
@pytest.mark.parametrize("oracle", SMALL, ids=lambda oracle: oracle.script)
def test_the_metric_is_that_of_a_plain_trainer(oracle: Oracle, tmp_path: Path, runs: Runs) -> None:
    found, expected = compare(oracle, tmp_path, runs)
    assert min(expected.values()) > 0.9  # it has learned
    assert same(found, expected), (found, expected)


def test_a_metric_that_is_further_away_is_seen() -> None:
    assert same({"f1": 0.991}, {"f1": 1.0})
    assert not same({"f1": 0.98}, {"f1": 1.0})
