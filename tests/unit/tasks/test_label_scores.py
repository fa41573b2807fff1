"""What logits say of a row: chances, predictions and losses, as torch has them."""

import numpy as np
import pytest

from tunesmith_trainer.tasks.sequence_classification.scores import (
    Target,
    loss_of,
    predicted_classes,
    scores_of,
    shown_answer,
)

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
LOGITS = np.array([2.0, -0.3, 0.0, 9.5, -40.0, 1.0], np.float32)
LABELS = list("abcdef")


def test_losses_are_torchs() -> None:
    import torch
    from torch.nn import functional

    logits = torch.tensor(LOGITS, dtype=torch.float64)[None]
    single = float(functional.cross_entropy(logits, torch.tensor([1])))
    assert loss_of(scores_of(LOGITS, SINGLE), Target((1,), 3.0), SINGLE) == pytest.approx(single)
    sets = torch.tensor([[1.0, 0, 0, 1, 0, 1]], dtype=torch.float64)
    multi = float(functional.binary_cross_entropy_with_logits(logits, sets))
    assert loss_of(scores_of(LOGITS, MULTI), Target((0, 3, 5)), MULTI) == pytest.approx(multi)
    assert loss_of(scores_of(LOGITS[:1], REGRESSION), Target(number=0.5), REGRESSION) == pytest.approx(2.25)
    assert np.isfinite(loss_of(scores_of(np.array([0.0, 900.0]), SINGLE), Target((0,)), SINGLE))


def test_what_is_predicted() -> None:
    assert predicted_classes(scores_of(LOGITS, SINGLE), SINGLE) == [3]
    assert predicted_classes(scores_of(LOGITS, MULTI), MULTI) == [0, 3, 5]  # a chance of one half is none
    assert scores_of(LOGITS, SINGLE).sum() == pytest.approx(1)


def test_what_is_stored_of_a_row() -> None:
    assert Target.of(np.array([9.0, 2.0, 0.25]), SINGLE) == Target((2,), 0.25)
    assert Target.of(np.array([9.0, 2.0, 0.0]), MULTI) == Target((2, 0))
    assert Target.of(np.array([9.0]), MULTI) == Target()
    assert Target.of(np.array([9.0, -1.5]), REGRESSION) == Target(number=-1.5)


def test_answers_for_people() -> None:
    scores = scores_of(LOGITS, SINGLE)
    answer = shown_answer(scores, 1.25, SINGLE, LABELS)
    assert answer["label"] == "d"
    assert list(answer["scores"]) == ["d", "a", "f", "c", "b"]
    assert answer["loss"] == 1.25
    assert shown_answer(scores_of(LOGITS, MULTI), 0.5, MULTI, LABELS)["labels"] == ["a", "d", "f"]
    assert shown_answer(np.array([2.123456789]), 0.5, REGRESSION, []) == {"number": 2.12346, "loss": 0.5}
