"""Follows the loss on the validation rows: which step had the lowest, and whether training is to stop early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_api.spec import EarlyStoppingSpec


@dataclass
class ValidationLoss:
    """The evaluations of a run so far. All processes know the same, as all get the same losses.

    Attributes:
        early_stopping: When to stop; None for never.
        best_step: Step of the lowest loss; None before the first evaluation.
        best: The lowest loss, in nats.
        improved_at: Step of the last improvement, by more than `minDelta`.
        improved_to: The loss there.
        waited: Evaluations since.
    """

    early_stopping: EarlyStoppingSpec | None = None
    best_step: int | None = None
    best: float | None = None
    improved_at: int = 0
    improved_to: float | None = None
    waited: int = 0

    def note(self, step: int, loss: float) -> bool:
        """Note an evaluation, and return whether its loss is the lowest so far.

        Args:
            step: The step that it follows.
            loss: Its loss, in nats.
        """
        least = self.early_stopping.min_delta if self.early_stopping else 0.0
        if self.improved_to is None or loss < self.improved_to - least:
            self.improved_at, self.improved_to, self.waited = step, loss, 0
        else:
            self.waited += 1
        if self.best is not None and loss >= self.best:
            return False
        self.best_step, self.best = step, loss
        return True

    @property
    def stop_reason(self) -> str | None:
        """Why training is to stop now, as part of a sentence; None if it is to go on."""
        if self.early_stopping is None or self.waited < self.early_stopping.patience or self.improved_to is None:
            return None
        delta = self.early_stopping.min_delta
        below = f"by more than {delta:g} below" if delta else "below"
        evaluations = "1 evaluation" if self.waited == 1 else f"{self.waited} evaluations"
        return (
            f"in {evaluations} the validation loss has not fallen {below} the {self.improved_to:.4f} "
            f"of step {self.improved_at}"
        )

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold of it."""
        return {name: getattr(self, name) for name in _STATE}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from the state in a checkpoint; one that has none leaves it as it is."""
        for name in _STATE:
            if name in state:
                setattr(self, name, state[name])


_STATE = ("best_step", "best", "improved_at", "improved_to", "waited")
