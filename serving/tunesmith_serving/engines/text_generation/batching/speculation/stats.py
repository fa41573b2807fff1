"""What becomes of drafts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DraftCounts:
    """What became of the drafts of one source since the start.

    Attributes:
        drafted: Drafts that were checked.
        accepted: Those that were right.
    """

    drafted: int
    accepted: int


@dataclass(frozen=True, slots=True)
class SpeculationStats:
    """What became of drafts since the start.

    Attributes:
        lookup: Those that were found in the prompt or the answer.
        model: Those of the draft model, if there is one.
    """

    lookup: DraftCounts
    model: DraftCounts | None = None
