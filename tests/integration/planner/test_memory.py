"""The planner's memory against that of real training: a cut of tests/bench/plan.py on a small model."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.plan_points import Point, Trainers

ONE = Point(model="llama-8m", length=128, micro_batch_size=2)
POINTS = {
    "full": ONE,
    "dora, checkpointing": Point(model="llama-8m", method="dora", length=96, micro_batch_size=2, checkpointing=True),
    "full, zero2": Point(model="llama-8m", strategy="zero2", length=64, micro_batch_size=1),
}


@pytest.fixture(scope="module")
def trainers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainers]:
    with Trainers(Path(tmp_path_factory.mktemp("points"))) as started:
        yield started


@pytest.mark.parametrize("name", POINTS)
def test_tensors_take_what_is_planned(trainers: Trainers, name: str) -> None:
    point = POINTS[name]
    measured = trainers.measure(point)
    memory = point.predicted()
    assert memory.allocated == pytest.approx(measured.allocated, rel=0.03), memory.phase
    assert memory.total > measured.allocated
