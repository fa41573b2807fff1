"""From the protocol's body to the fields of the status."""

from typing import Any

import pytest

from tunesmith_api.objects.finetunejob import Progress
from tunesmith_operator.progress.report import ReportError, merged, progress_of


def body(metrics: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    entries = [{"name": name, "value": value} for name, value in (metrics or {}).items()]
    return {"trainerStatus": {"metrics": entries, **status}}


def test_what_the_hugging_face_callback_sends() -> None:
    metrics = {
        "loss": "2.5",
        "learning_rate": "0.001",
        "current_step": "7",
        "total_steps": "20",
        "current_epoch": "0.3",
    }
    sent = body(metrics, progressPercentage=35, estimatedRemainingSeconds=12, lastUpdatedTime="2026-01-01T00:00:00Z")
    assert progress_of(sent) == {"etaSeconds": 12.0, "loss": 2.5, "step": 7, "totalSteps": 20, "epoch": 0.3}


def test_what_our_trainer_sends() -> None:
    metrics = {
        "step": 7, "totalSteps": 20, "epoch": 0.5, "loss": 2.0, "evalLoss": "1.5", "tokensPerSecond": 1e3,
        "etaSeconds": 9, "detail": "saving a checkpoint",
    }  # fmt: skip
    assert progress_of(body(metrics)) == {
        "step": 7, "totalSteps": 20, "epoch": 0.5, "loss": 2.0, "evalLoss": 1.5, "tokensPerSecond": 1000.0,
        "etaSeconds": 9.0, "detail": "saving a checkpoint",
    }  # fmt: skip


def test_every_field_is_one_that_the_api_has() -> None:
    metrics = {name: "1" for name in ("step", "totalSteps", "epoch", "loss", "evalLoss", "tokensPerSecond", "detail")}
    Progress.model_validate(merged(None, "train", progress_of(body(metrics, estimatedRemainingSeconds=1))))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "", "x", None, True, [], {}, "1e400", "9" * 400])
def test_what_is_no_number_is_left_out(value: Any) -> None:
    assert progress_of(body({"loss": value, "step": value})) == {}


@pytest.mark.parametrize(
    ("sent", "where"),
    [
        (None, "trainerStatus"),
        ([], "trainerStatus"),
        ({}, "trainerStatus"),
        ({"trainerStatus": []}, "trainerStatus"),
        ({"trainerStatus": {"metrics": {}}}, "metrics"),
        ({"trainerStatus": {"metrics": [1]}}, "metrics[0]"),
        ({"trainerStatus": {"metrics": [{"name": "loss"}, {"name": 3}]}}, "metrics[1]"),
        ({"trainerStatus": {"metrics": [{"name": "x"}] * 201}}, "200"),
    ],
)
def test_what_is_not_of_the_form_is_refused_with_the_place(sent: Any, where: str) -> None:
    with pytest.raises(ReportError) as caught:
        progress_of(sent)
    assert where in str(caught.value)


def test_long_text_is_cut() -> None:
    assert len(progress_of(body({"detail": "x" * 5000}))["detail"]) == 256


def test_what_a_report_does_not_tell_is_kept_within_a_stage() -> None:
    first = merged(None, "train", {"step": 1, "loss": 3.0, "detail": "warming up"})
    second = merged(first, "train", {"step": 2})
    assert second == {"stage": "train", "step": 2, "loss": 3.0}
    assert merged(second, "prepare", {"detail": "reading"}) == {"stage": "prepare", "detail": "reading"}


def test_while_a_job_publishes_one_still_sees_how_far_it_was_trained() -> None:
    last = {"stage": "train", "step": 9, "totalSteps": 9, "loss": 1.0, "tokensPerSecond": 5.0, "etaSeconds": 0}
    first = merged(last, "publish", {"detail": "merging"})
    assert first == {"stage": "publish", "step": 9, "totalSteps": 9, "loss": 1.0, "detail": "merging"}
    assert merged(first, "publish", {}) == {"stage": "publish", "step": 9, "totalSteps": 9, "loss": 1.0}
