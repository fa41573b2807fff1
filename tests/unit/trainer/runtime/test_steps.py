"""Progress of steps, with the time that is left."""

import json
import logging
from pathlib import Path

import pytest

from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.evaluate import estimate
from tunesmith_trainer.evaluate.estimate import Estimate
from tunesmith_trainer.runtime import steps
from tunesmith_trainer.runtime.steps import StepProgress, clock


class Time:
    """A clock that goes on by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    found = Time()
    monkeypatch.setattr(steps, "time", found)
    monkeypatch.setattr(estimate, "time", found)
    monkeypatch.setattr("tunesmith_trainer.runtime.progress.time", found)
    return found


def progress_of(work: Path) -> dict[str, object]:
    return dict(json.loads((work / "progress.json").read_text()))


def test_the_time_left_follows_from_the_items_done(tmp_path: Path, time: Time) -> None:
    progress = StepProgress(WorkFolder(tmp_path), Stage.PUBLISH, logging.getLogger("test"))
    with progress.track("evaluating", 4) as advance:
        assert progress_of(tmp_path) == {"stage": "publish", "detail": "evaluating 0/4"}
        time.now += 30
        advance(1)
        expected = {"stage": "publish", "detail": "evaluating 1/4, 1:30 left", "etaSeconds": 90.0}
        assert progress_of(tmp_path) == expected
        advance.expect(3700)
        time.now += 10
        advance(1)
        assert progress_of(tmp_path)["detail"] == "evaluating 2/4, 1 h 01 min left"
    assert progress_of(tmp_path)["detail"] == "evaluating 2/4"


def test_the_estimate_is_told_after_the_first_batch_and_corrected(
    tmp_path: Path, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, estimate.log.name)
    progress = StepProgress(WorkFolder(tmp_path), Stage.TRAIN, logging.getLogger("test"))
    with progress.track("evaluating", 10) as advance:
        left = Estimate(advance, "loss on 10 rows of 400 tokens", 400)
        time.now += 20
        left.worked(100)
        assert caplog.messages == ["loss on 10 rows of 400 tokens: about 1:00"]
        assert progress_of(tmp_path)["etaSeconds"] == 60
        left.skipped(200)
        time.now += 20
        left.worked(50)
        assert left.seconds_left() == pytest.approx(40 / 150 * 50)
        assert advance.seconds_left() == pytest.approx(left.seconds_left())
        assert len(caplog.messages) == 1


def test_short_work_is_not_worth_a_line(time: Time, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    left = Estimate(lambda count: None, "answers", 100)
    time.now += 0.05
    left.worked(1)
    assert caplog.messages == []


def test_durations_are_read_by_people() -> None:
    assert [clock(seconds) for seconds in (0.4, 61, 3599.6, 7380)] == ["0:00", "1:01", "1 h 00 min", "2 h 03 min"]
