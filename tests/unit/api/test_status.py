"""Where an object stands, as GitOps tools read it."""

import pytest

from tunesmith_api import status as state
from tunesmith_api.objects import FineTuneJobStatus, InferenceWorkspaceStatus
from tunesmith_api.work_folder import Stage

ACCEPTED = state.accepted({}, generation=3)
RUNNING = state.running(ACCEPTED, Stage.TRAIN, {"prepare": 1, "train": 2})
COMPLETED = state.completed(RUNNING, {"uri": "/a", "digest": "sha256:0"}, {"after": {"evalLoss": 1.0}})
FAILED = state.failed(RUNNING, "GateFailed", "exactMatch is 0.5; lower the gate, or train longer")
SERVING = state.serving({}, "http://127.0.0.1:8080/v1", "sha256:0123456789abcdef", "/a")

WORKING, DONE, STALLED = ("Unknown", "True", "False"), ("True", "False", "False"), ("False", "False", "True")


def conditions(status):
    values = {item["type"]: item["status"] for item in status["conditions"]}
    assert set(values) == {"Ready", "Reconciling", "Stalled"}
    return values["Ready"], values["Reconciling"], values["Stalled"]


def reasons(status):
    return {item["reason"] for item in status["conditions"]}


@pytest.mark.parametrize(
    ("status", "phase", "expected", "reason"),
    [
        (ACCEPTED, "Pending", WORKING, "Accepted"),
        (state.running(ACCEPTED, Stage.PREPARE, {"prepare": 1}), "Preparing", WORKING, "Preparing"),
        (RUNNING, "Training", WORKING, "Training"),
        (state.running(RUNNING, Stage.PUBLISH, {}), "Publishing", WORKING, "Publishing"),
        (state.waiting(RUNNING, "SourceUnavailable", "later"), "Pending", WORKING, "SourceUnavailable"),
        (state.interrupted(RUNNING, Stage.TRAIN), "Pending", WORKING, "Interrupted"),
        (COMPLETED, "Succeeded", DONE, "Completed"),
        (FAILED, "Failed", STALLED, "GateFailed"),
        (state.running(FAILED, Stage.TRAIN, {}), "Training", WORKING, "Training"),
        (state.progressing({}, "Starting"), "Progressing", WORKING, "RollingOut"),
        (SERVING, "Serving", DONE, "Serving"),
        (state.scaled_to_zero(SERVING), "Stopped", DONE, "ScaledToZero"),
        (state.stopped(SERVING), "Stopped", WORKING, "Interrupted"),
        (state.failed(SERVING, "ServerFailed", "see its log"), "Failed", STALLED, "ServerFailed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_phase_and_conditions(status, phase, expected, reason):
    assert status["phase"] == phase
    assert conditions(status) == expected
    assert reasons(status) == {reason}


@pytest.mark.parametrize(
    ("status", "model"),
    [
        (state.with_progress(RUNNING, {"stage": "train", "step": 3}, {"a": {"value": 1, "reason": "b"}}), "job"),
        (COMPLETED, "job"),
        (FAILED, "job"),
        (SERVING, "workspace"),
        (state.scaled_to_zero(SERVING), "workspace"),
        (state.failed(SERVING, "ServerFailed", "see its log"), "workspace"),
    ],
)
def test_a_status_has_only_fields_of_its_kind(status, model):
    parsed = (FineTuneJobStatus if model == "job" else InferenceWorkspaceStatus).model_validate(status)
    assert parsed.model_extra == {}
    assert parsed.to_api() == status


def test_conditions_speak_of_the_generation_that_was_seen():
    assert ACCEPTED["observedGeneration"] == 3
    assert {item["observedGeneration"] for item in RUNNING["conditions"]} == {3}


def test_the_transition_time_moves_with_the_value_only(monkeypatch):
    times = iter(f"2026-01-01T00:00:{second:02}Z" for second in range(60))
    monkeypatch.setattr("tunesmith_api.status.conditions.now", lambda: next(times))
    first = state.with_condition({}, "Ready", "Unknown", "A", "a")
    same = state.with_condition(first, "Ready", "Unknown", "B", "b")
    other = state.with_condition(same, "Ready", "True", "B", "b")

    def since(status):
        return status["conditions"][0]["lastTransitionTime"]

    assert since(same) == since(first)
    assert same["conditions"][0]["reason"] == "B"
    assert since(other) > since(same)


def test_nothing_is_changed_in_place():
    before = state.accepted({})
    copy = {**before, "conditions": [dict(item) for item in before["conditions"]]}
    state.failed(state.running(before, Stage.TRAIN, {}), "X", "x")
    assert before == copy


@pytest.mark.parametrize("end", [lambda s: state.failed(s, "X", "x"), lambda s: state.completed(s, {}, {})])
def test_the_end_of_a_job_is_written_once(end, monkeypatch):
    monkeypatch.setattr("tunesmith_api.status.conditions.now", lambda: "2026-01-01T00:00:00Z")
    first = end(RUNNING)
    monkeypatch.setattr("tunesmith_api.status.conditions.now", lambda: "2027-01-01T00:00:00Z")
    assert end(first) == first
    assert "completionTime" not in state.running(first, Stage.TRAIN, {})


def test_revisions_are_kept_in_order():
    status = {}
    for number in range(15):
        status = state.serving(status, "http://x/v1", f"sha256:{number:010}", f"/{number}")
        again = state.serving(status, "http://x/v1", f"sha256:{number:010}", f"/{number}")
        assert again["history"] == status["history"]
    assert status["revision"] == f"{14:010}"
    assert status["previousRevision"] == f"{13:010}"
    assert [item["artifact"] for item in status["history"]] == [f"/{number}" for number in range(5, 15)]


def test_while_a_job_publishes_its_progress_still_tells_how_far_it_was_trained():
    training = state.with_progress(RUNNING, {"stage": "train", "step": 3, "loss": 0.5, "tokensPerSecond": 9.0})
    publishing = state.with_progress(training, {"stage": "publish", "detail": "merging"})
    assert publishing["progress"] == {"stage": "publish", "step": 3, "loss": 0.5, "detail": "merging"}
    again = state.with_progress(publishing, {"stage": "train", "step": 1})
    assert again["progress"] == {"stage": "train", "step": 1}
