"""Checkpoints are used when they are whole, and named and removed when they are not."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith_trainer.train.checkpointing.checkpoints import newest_usable, rotate, seal

ABOUT = {"strategy": "ddp", "worldSize": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three whole checkpoints."""
    for step in (3, 6, 12):
        checkpoint = tmp_path / f"checkpoint-{step}"
        (checkpoint / "global_step").mkdir(parents=True)
        (checkpoint / "optimizer.pt").write_bytes(b"o" * 1000)
        (checkpoint / "global_step" / "states.pt").write_bytes(b"s" * step)
        seal(checkpoint, ABOUT)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_the_newest_by_number_is_used(folder: Path) -> None:
    assert newest_usable(folder, {"strategy": "ddp"}) == folder / "checkpoint-12"
    assert names(folder) == ["checkpoint-12", "checkpoint-3", "checkpoint-6"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda c: halve(c / "optimizer.pt"), "optimizer.pt has 500 bytes of 1000"),
        (lambda c: (c / "optimizer.pt").write_bytes(b"x" * 1000), "optimizer.pt has other content"),
        (lambda c: (c / "global_step" / "states.pt").unlink(), "global_step/states.pt is missing"),
        (lambda c: (c / "complete.json").unlink(), "complete.json is missing"),
        (lambda c: halve(c / "complete.json"), "complete.json is missing"),
    ],
)
def test_a_damaged_one_is_skipped_and_named(
    folder: Path, damage: Callable[[Path], None], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage(folder / "checkpoint-12")
    with caplog.at_level(logging.WARNING):
        assert newest_usable(folder, {"strategy": "ddp"}) == folder / "checkpoint-6"
    (record,) = caplog.records
    assert "checkpoint-12" in record.message
    assert said in record.message
    assert "going on from checkpoint-6" in record.message
    assert names(folder) == ["checkpoint-3", "checkpoint-6"]


def test_none_is_left_when_all_are_damaged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (3, 6, 12):
        halve(folder / f"checkpoint-{step}" / "optimizer.pt")
    with caplog.at_level(logging.WARNING):
        assert newest_usable(folder, {"strategy": "ddp"}) is None
    assert len(caplog.records) == 3
    assert "starting from the beginning" in caplog.text
    assert names(folder) == []


def test_one_of_another_run_is_not_used(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert newest_usable(folder, {"strategy": "ddp", "worldSize": 2}) is None
    assert "worldSize 1, this run has 2" in caplog.text


def test_absent_folder(tmp_path: Path) -> None:
    assert newest_usable(tmp_path / "none", {}) is None


def test_only_whole_ones_count_when_old_ones_are_removed(folder: Path) -> None:
    (folder / "checkpoint-15").mkdir()
    rotate(folder, 2)
    assert names(folder) == ["checkpoint-12", "checkpoint-15", "checkpoint-6"]
    rotate(folder, 1)
    assert names(folder) == ["checkpoint-12", "checkpoint-15"]


def test_leftovers_of_a_removal_are_swept(folder: Path) -> None:
    (folder / "checkpoint-3").rename(folder / ".checkpoint-3")
    newest_usable(folder, {})
    assert names(folder) == ["checkpoint-12", "checkpoint-6"]
