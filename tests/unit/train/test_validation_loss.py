"""Which evaluation was the best, and when training stops for want of a better one."""

import json

import pytest

from tunesmith_api.spec import EarlyStoppingSpec
from tunesmith_trainer.train.validation_loss import ValidationLoss


def followed(losses: list[float], **settings: float) -> ValidationLoss:
    """The losses of steps 10, 20, ..., up to the one after which training stops."""
    seen = ValidationLoss(EarlyStoppingSpec(**settings))
    for number, loss in enumerate(losses, 1):
        seen.note(number * 10, loss)
        if seen.stop_reason:
            break
        # As after each checkpoint: what goes on is what was stored.
        stored = json.loads(json.dumps(seen.state()))
        seen = ValidationLoss(seen.early_stopping)
        seen.restore(stored)
    return seen


@pytest.mark.parametrize(
    ("losses", "settings", "best", "stops"),
    [
        ([3, 2, 1, 0.5], {"patience": 1}, 40, None),
        ([3, 2, 2.5, 1], {"patience": 1}, 20, 30),
        ([3, 2, 2.5, 1], {"patience": 2}, 40, None),
        ([3, 2, 2, 2], {"patience": 2}, 20, 40),  # an equal loss is no improvement
        ([3, 2.95, 2.91, 1], {"patience": 2, "min_delta": 0.1}, 30, 30),  # lower, and yet no improvement
        ([3, 2.95, 2.85, 2.8], {"patience": 2, "min_delta": 0.1}, 40, None),  # slowly, but from where it last improved
        ([3], {"patience": 1}, 10, None),
    ],
)
def test_it_stops_when_the_loss_no_longer_falls(
    losses: list[float], settings: dict[str, float], best: int, stops: int | None
) -> None:
    seen = followed(losses, **settings)
    assert seen.best_step == best
    assert seen.best == losses[best // 10 - 1]
    noted = next((n * 10 for n in range(1, len(losses) + 1) if followed(losses[:n], **settings).stop_reason), None)
    assert noted == stops


def test_the_reason_says_since_when() -> None:
    seen = followed([3, 2, 2.5, 2.25], patience=2)
    assert seen.stop_reason == "in 2 evaluations the validation loss has not fallen below the 2.0000 of step 20"
    seen = followed([3, 2.9999], patience=1, min_delta=0.01)
    assert seen.stop_reason == (
        "in 1 evaluation the validation loss has not fallen by more than 0.01 below the 3.0000 of step 10"
    )


def test_without_early_stopping_it_never_stops() -> None:
    seen = ValidationLoss()
    assert [seen.note(step, loss) for step, loss in ((1, 1.0), (2, 1.0), (3, 0.5), (4, 2.0))] == [
        True,
        False,
        True,
        False,
    ]
    assert seen.stop_reason is None
    assert (seen.best_step, seen.best) == (3, 0.5)
