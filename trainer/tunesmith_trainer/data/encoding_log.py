"""Records what happened to rows while they were tokenised."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from tunesmith_trainer.data.length_counts import LengthCounts

_SHOWN = 20


class Outcome(StrEnum):
    """Something that happened to a row."""

    TRUNCATED = "truncated"  # a conversation that lost its oldest turns
    SPLIT = "split"  # a text that was cut into several rows
    SKIPPED = "skipped"  # a conversation whose last exchange alone is too long
    SPECIAL_TOKENS = "specialTokens"  # its text contains special tokens


@dataclass
class EncodingLog:
    """Numbers of rows by what happened to them, and where the first of them are.

    Attributes:
        counts: Number of rows.
        locations: Locations of the first rows, at most 20, each with a detail where there is one.
        lengths: Number of rows by their tokens before they were shortened.
    """

    counts: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    locations: dict[Outcome, list[str]] = field(default_factory=lambda: {outcome: [] for outcome in Outcome})
    lengths: LengthCounts = field(default_factory=LengthCounts)

    def add(self, outcome: Outcome, location: str, detail: str = "") -> None:
        """Record what happened to a row."""
        self.counts[outcome] += 1
        if len(self.locations[outcome]) < _SHOWN:
            self.locations[outcome].append(f"{location} ({detail})" if detail else location)

    @property
    def truncated(self) -> int:
        """Number of rows that were shortened or split."""
        return self.counts[Outcome.TRUNCATED] + self.counts[Outcome.SPLIT]

    @property
    def skipped(self) -> int:
        """Number of rows that were skipped."""
        return self.counts[Outcome.SKIPPED]
