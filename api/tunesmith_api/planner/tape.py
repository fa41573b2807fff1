"""Bytes over a sequence of steps, and their peak."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Tape:
    """Bytes over a sequence of steps.

    Attributes:
        current: Bytes now, from where the sequence began.
        peak: Most bytes so far.
    """

    current: int = 0
    peak: int = 0

    def take(self, size: float) -> None:
        """Take bytes."""
        self.current += int(size)
        self.peak = max(self.peak, self.current)

    def give(self, size: float) -> None:
        """Give bytes back."""
        self.current -= int(size)

    def pass_by(self, size: float) -> None:
        """Take bytes and give them back."""
        self.take(size)
        self.give(size)
