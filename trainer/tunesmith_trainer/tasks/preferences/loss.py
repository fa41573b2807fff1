"""The losses of direct preference optimisation, as trl computes them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from tunesmith_api.spec import DpoSpec


@dataclass(frozen=True)
class Comparison:
    """What a model says of pairs, beside what it said before training.

    Attributes:
        chosen: float [pairs], by how much the log-probability of the better answer has risen, in nats.
        rejected: float [pairs], the same of the worse answer.
        chosen_tokens: int64 [pairs], tokens of the better answer.
        rejected_tokens: int64 [pairs], tokens of the worse one.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor

    @classmethod
    def of(cls, logps: torch.Tensor, reference: torch.Tensor, tokens: torch.Tensor) -> Comparison:
        """Return the comparison of a model with a reference.

        Args:
            logps: float [2, pairs], log-probabilities of the better and the worse answers.
            reference: float [2, pairs], those of the reference.
            tokens: int64 [2, pairs], tokens of the answers.
        """
        ratios = logps - reference.to(logps.dtype)
        return cls(ratios[0], ratios[1], tokens[0], tokens[1])

    def rewards(self, spec: DpoSpec) -> tuple[torch.Tensor, torch.Tensor]:
        """Return whether the better answer wins, 1, 0, or 0.5 for a draw, and by how much: float64 [pairs] each."""
        margins = spec.beta * (self.chosen - self.rejected).detach().double()
        return (margins.sign() + 1) / 2, margins

    def losses(self, spec: DpoSpec) -> torch.Tensor:
        """Return the loss of each pair, float [pairs]."""
        difference = self.chosen - self.rejected
        if spec.loss_type in ("ipo", "sigmoidNorm"):
            difference = self.chosen / self.chosen_tokens.clamp(min=1)
            difference = difference - self.rejected / self.rejected_tokens.clamp(min=1)
        if spec.loss_type == "ipo":
            return (difference - 1 / (2 * spec.beta)) ** 2
        wins = -logsigmoid(spec.beta * difference)
        if not spec.smoothing:
            return wins
        share, loses = spec.smoothing, -logsigmoid(-spec.beta * difference)
        return ((1 - share) * wins - share * loses) / (1 - 2 * share)
