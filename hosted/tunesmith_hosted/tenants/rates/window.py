"""What was used in the last minute, in slots of a few seconds: never more than the limit within any minute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SLOT_SECONDS = 5
_SLOTS = 60 // SLOT_SECONDS + 1  # the oldest is still partly within the minute

Slots = Mapping[str, int]
"""What was used in each slot; its number since 1970 as text, as JSON has it."""


def slot_of(now: float) -> int:
    """Return the number of the slot of a time in Unix seconds."""
    return int(now // SLOT_SECONDS)


def recent(slots: Slots, now: float) -> dict[str, int]:
    """Return the slots that still count."""
    oldest = slot_of(now) - _SLOTS + 1
    return {number: used for number, used in slots.items() if int(number) >= oldest}


def add(slots: Slots, now: float, amount: int, slot: int | None = None) -> dict[str, int]:
    """Return the slots with more, or less, used in one of them: by default, the slot of now."""
    kept, number = recent(slots, now), str(slot_of(now) if slot is None else slot)
    if amount > 0 or number in kept:
        kept[number] = max(0, kept.get(number, 0) + amount)
    return kept


@dataclass(frozen=True, slots=True)
class Standing:
    """How a project stands to one of its limits.

    Attributes:
        limit: The most in a minute.
        remaining: What is left of it.
        reset: Seconds until all of it is there again.
    """

    limit: int
    remaining: int
    reset: float


def standing(slots: Slots, limit: int, now: float) -> Standing:
    """Return how much is left of a limit."""
    kept = recent(slots, now)
    newest = max((int(number) for number, used in kept.items() if used), default=None)
    reset = 0.0 if newest is None else _ends(newest) - now
    return Standing(limit, max(0, limit - sum(kept.values())), reset)


def wait_for(slots: Slots, limit: int, amount: int, now: float) -> float | None:
    """Return the seconds until an amount fits: 0 if it does now, None if it is more than the limit."""
    if amount > limit:
        return None
    kept = recent(slots, now)
    used = sum(kept.values())
    if used + amount <= limit:
        return 0.0
    for number in sorted(kept, key=int):
        used -= kept[number]
        if used + amount <= limit:
            return _ends(int(number)) - now
    return 0.0


def _ends(slot: int) -> float:
    """Return when a slot no longer counts."""
    return float((slot + _SLOTS) * SLOT_SECONDS)
