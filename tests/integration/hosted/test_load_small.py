"""A cut of `make hosted-load`: replicas and PostgreSQL are killed while projects fine-tune, files come in parts."""

from collections.abc import Iterator

import pytest

from support.hosted_files_load import MOST_BYTES, upload_in_parts, upload_many
from support.hosted_fleet import Fleet, running_fleet
from support.hosted_load import check_load, run_load
from support.job_history import Entry, left_at_the_end, made_twice, most_at_once
from support.postgres import Postgres

SEED = 20


@pytest.fixture(scope="module")
def fleet(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running_fleet(tmp_path_factory.mktemp("fleet"), postgres.create_database(), 3, (0.5, 2.0)) as running:
        yield running


def test_files_arrive_whole(fleet: Fleet) -> None:
    key = fleet.add_project("files")
    assert upload_many(fleet, key, 100, SEED) > 0
    assert upload_in_parts(fleet, key, 64 << 20, SEED) < MOST_BYTES


def test_jobs_survive_kills(fleet: Fleet, postgres: Postgres) -> None:
    wanted, _ = run_load(fleet, postgres, seed=SEED, projects=5, jobs=5, kills=3, outages=2, gap=0.5)
    check_load(fleet, wanted)


def test_the_observer_sees_faults() -> None:
    log = [
        Entry(1, "made", "a", "x"),
        Entry(2, "made", "a", "y"),
        Entry(3, "ended", "a", "x"),
        Entry(4, "made", "a", "x"),
    ]
    assert made_twice(log) == ["x"]
    assert most_at_once(log) == {"a": 2}
    assert left_at_the_end([*log, Entry(5, "deleted", "a", "y")]) == {"x"}
