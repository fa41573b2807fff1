"""What is to be done about a job."""

from typing import Any

import pytest

from tunesmith_hosted.reconcile.admission import choose
from tunesmith_hosted.reconcile.decide import JobFacts, decide

RUNS = JobFacts("running", has_place=True)
WAITS = [{"type": "Ready", "status": "Unknown", "reason": "Suspended", "message": "it waits"}]
KUEUE = [{"type": "Ready", "status": "Unknown", "reason": "Queued", "message": "it waits"}]


def job(phase: str | None = None, suspend: bool = False, **status: Any) -> dict[str, Any]:
    return {"spec": {"suspend": suspend}, "status": {"phase": phase, **status} if phase else {}}


@pytest.mark.parametrize(
    ("facts", "found", "applied", "act", "status", "keeps", "again"),
    [
        (JobFacts("validating_files"), None, False, "validate", "validating_files", True, False),
        (JobFacts("queued"), None, False, "none", "queued", False, False),
        (JobFacts("queued", has_place=True), None, False, "apply", "queued", True, True),
        (JobFacts("queued", has_place=True), None, True, "apply", "queued", True, True),
        (JobFacts("queued", has_place=True), job(), True, "none", "queued", True, True),
        (JobFacts("queued", has_place=True), job("Pending"), True, "none", "queued", True, True),
        (JobFacts("queued", has_place=True), job("Preparing"), True, "none", "running", True, True),
        (RUNS, job("Training"), True, "none", "running", True, True),
        (RUNS, job("Training"), False, "apply", "running", True, True),
        (RUNS, job("Training", conditions=KUEUE), True, "none", "queued", True, True),
        (RUNS, job("Training", suspend=True), True, "resume", "running", True, True),
        (RUNS, job("Succeeded"), False, "none", "succeeded", False, False),
        (RUNS, job("Failed"), True, "none", "failed", False, False),
        (JobFacts("paused", "pause"), None, False, "none", "paused", False, False),
        (JobFacts("pausing", "pause", True), None, True, "none", "paused", False, False),
        (JobFacts("pausing", "pause", True), job("Training"), True, "suspend", "pausing", True, True),
        (JobFacts("pausing", "pause", True), job("Training", True), True, "none", "pausing", True, True),
        (
            JobFacts("pausing", "pause", True),
            job("Training", True, conditions=WAITS),
            True,
            "none",
            "paused",
            False,
            False,
        ),
        # A resumed job has left its suspension only when that is taken back.
        (JobFacts("pausing", "pause", True), job("Training", conditions=WAITS), True, "suspend", "pausing", True, True),
        (JobFacts("pausing", "pause", True), job("Succeeded"), True, "none", "succeeded", False, False),
        (JobFacts("cancelled", "cancel"), job("Training"), True, "delete", "cancelled", False, False),
        (JobFacts("cancelled", "cancel"), None, True, "none", "cancelled", False, False),
        (JobFacts("succeeded"), None, True, "none", "succeeded", False, False),
        (JobFacts("failed"), job("Training"), True, "none", "failed", False, False),
    ],
)
def test_decisions(facts: Any, found: Any, applied: bool, act: str, status: str, keeps: bool, again: bool) -> None:
    decision = decide(facts, found, applied)
    assert (decision.act, decision.status, decision.keeps_place, decision.again) == (act, status, keeps, again)


def test_a_step_is_told_once() -> None:
    progress = {"step": 3, "totalSteps": 9, "loss": 1.5, "evalLoss": 1.25, "etaSeconds": 7}
    first = decide(RUNS, job("Training", progress=progress), True)
    assert [event.data for event in first.events] == [
        {"step": 3, "train_loss": 1.5, "valid_loss": 1.25, "total_steps": 9}
    ]
    assert first.eta == 7
    again = JobFacts("running", has_place=True, observed=first.observed)
    assert decide(again, job("Training", progress=progress), True).events == ()


def test_a_failure_says_why() -> None:
    why = [{"type": "Ready", "status": "False", "reason": "InvalidDataset", "message": "row 3 is wrong"}]
    decision = decide(RUNS, job("Failed", conditions=why), True)
    assert decision.error == {"code": "invalid_training_file", "message": "row 3 is wrong", "param": "training_file"}
    assert decision.events[-1].level == "error"


@pytest.mark.parametrize(
    ("waiting", "running", "limits", "most", "chosen"),
    [
        ("a1 a2 b1", {}, {"a": None, "b": None}, None, "a1 b1 a2"),
        ("a1 a2 b1", {}, {"a": 1, "b": 1}, None, "a1 b1"),
        ("a1 a2 b1", {"a": 1}, {"a": 1, "b": 4}, None, "b1"),
        ("a1 a2 b1", {}, {"a": 4, "b": 4}, 2, "a1 b1"),
        ("a1 b1", {"c": 1}, {"a": 4, "b": 4}, 1, ""),
        ("a1 a2 a3 b1", {"a": 1}, {"a": 3, "b": 4}, None, "b1 a1 a2"),
        ("a1", {}, {"a": 0}, None, ""),
    ],
)
def test_places(waiting: str, running: dict[str, int], limits: Any, most: int | None, chosen: str) -> None:
    assert choose([(id, id[0]) for id in waiting.split()], running, limits, most) == chosen.split()
