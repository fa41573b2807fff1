"""How many tokens to draft: as many as make the answers faster.

A step with drafts computes more tokens than one without, and gives more only as far as drafts are right. So what a
step costs and how often the drafts of each answer are right are both measured while the server runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

PRIOR_RATE = 0.7
"""Chance that a draft is right, as long as nothing is known."""
PRIOR_TRIALS = 2.0
"""How many trials this guess counts for."""
MEMORY = 0.9
"""Weight that earlier drafts of an answer keep when another one is checked: text changes."""
RECOVERY = 0.97
"""Weight that they keep in a step without drafts, so that an answer whose drafts were wrong is tried again."""

TOKEN_COST = 0.2
"""Cost of one more token in a step, as a share of a step's fixed cost, as long as nothing is measured."""
PRIOR_STEPS = 8.0
"""How many steps this guess counts for."""
STEP_MEMORY = 0.98
"""Weight that what was measured keeps in each later step of another size."""
CHANGE = 0.2
"""By how much a step moves the estimate for its size."""
OUTLIER = 1.5
"""How many times as long as expected a step counts for at most: something else had the processor."""
MIN_GAIN = 1.05
"""How many times as fast a step with drafts must be, by the estimate: it is not exact."""


class AcceptanceRate:
    """How often drafts are right: those of one answer, or all of a draft model."""

    def __init__(self, prior: float = PRIOR_RATE, memory: float = MEMORY) -> None:
        """Start without knowledge.

        Args:
            prior: Chance that a draft is right, as long as nothing is known.
            memory: Weight that earlier drafts keep when another one is checked.
        """
        self._prior = prior
        self._memory = memory
        self._right = 0.0
        self._trials = 0.0

    @property
    def value(self) -> float:
        """The estimated chance that a draft is right if those before it are."""
        return (self._right + self._prior * PRIOR_TRIALS) / (self._trials + PRIOR_TRIALS)

    def record(self, drafted: int, accepted: int) -> None:
        """Count the drafts of one step; those after the first wrong one say nothing."""
        trials = accepted + (accepted < drafted)
        for index in range(trials):
            self._forget(self._memory)
            self._trials += 1
            self._right += index < accepted

    def skip(self) -> None:
        """Count a step in which nothing was drafted."""
        self._forget(RECOVERY)

    def _forget(self, kept: float) -> None:
        self._right *= kept
        self._trials *= kept


@dataclass(slots=True)
class _Size:
    """Steps with one number of tokens: their seconds, their weight, and when they were last seen."""

    seconds: float = 0.0
    weight: float = 0.0
    seen: int = 0


class StepCost:
    """What a step costs by the number of tokens that it computes: a fixed part, and one for each token.

    Attributes:
        measured: Whether costs are seconds; before, they are shares of a step's fixed cost.
    """

    def __init__(self) -> None:
        self.measured = False
        self._sizes: dict[int, _Size] = {}
        self._steps = 0
        self._fixed, self._each = 1.0, TOKEN_COST

    def record(self, tokens: int, seconds: float) -> None:
        """Count a step.

        Args:
            tokens: Tokens computed, padding included.
            seconds: How long it took.
        """
        self._steps += 1
        size = self._sizes.get(tokens)
        if size is None:
            self._sizes[tokens] = _Size(seen=self._steps)  # the first run of a size takes longer
            return
        if size.seconds:
            seconds = min(seconds, OUTLIER * size.seconds)
        size.seconds += (CHANGE if size.seconds else 1.0) * (seconds - size.seconds)
        size.weight = size.weight * STEP_MEMORY ** (self._steps - size.seen) + 1
        size.seen = self._steps
        if self._steps < 32 or self._steps % 8 == 0:
            self._fit()

    def of(self, tokens: int) -> float:
        """Return the estimated cost of a step with so many tokens; only ratios of two of them mean something."""
        return self._fixed + self._each * tokens

    def _fit(self) -> None:
        """Estimate the fixed cost and that of a token, by least squares drawn towards `TOKEN_COST`."""
        weight = tokens = squares = seconds = products = 0.0
        for count, size in self._sizes.items():
            share = size.weight * STEP_MEMORY ** (self._steps - size.seen)
            weight += share
            tokens += share * count
            squares += share * count * count
            seconds += share * size.seconds
            products += share * count * size.seconds
        if not weight:
            return
        tokens, seconds = tokens / weight, seconds / weight
        spread = max(0.0, squares - weight * tokens * tokens)
        together = products - weight * tokens * seconds
        expected = seconds * TOKEN_COST / (1 + TOKEN_COST * tokens)
        each = (together + PRIOR_STEPS * expected) / (spread + PRIOR_STEPS)
        self._each = min(max(each, 0.01 * expected), seconds / tokens)
        self._fixed = seconds - self._each * tokens
        self.measured = True


@dataclass(frozen=True, slots=True)
class DraftPlan:
    """How many drafts a step should check.

    Attributes:
        most: The most drafts of a row; 0 for a step without drafts.
        speed: Tokens by cost that this gives.
    """

    most: int
    speed: float


def plan_drafts(
    drafts: Sequence[int], rates: Sequence[float], cost: StepCost, drafting: Callable[[int], float] | None = None
) -> DraftPlan:
    """Return how many drafts a step should check.

    Rows with fewer tokens are padded: a step computes as many for each row as the longest has.

    Args:
        drafts: How many drafts each row has, or can have.
        rates: The chance of each row's drafts to be right.
        cost: What steps cost.
        drafting: What it costs to make so many drafts of a row; nothing if None.
    """
    rows = len(drafts)
    best, speed = 0, rows / cost.of(rows) * MIN_GAIN
    expected, chances = float(rows), list(zip(drafts, rates, strict=True))
    for most in range(1, max(drafts, default=0) + 1):
        # One more draft is right if all before it are.
        expected += sum(rate**most for count, rate in chances if count >= most)
        found = expected / (cost.of(rows * (most + 1)) + (drafting(most) if drafting else 0.0))
        if found > speed:
            best, speed = most, found
    return DraftPlan(best, speed)


def best_drafts(drafts: Sequence[int], rates: Sequence[float], cost: StepCost) -> int:
    """Return the most drafts of a row that a step should check, where the drafts cost nothing; 0 for none."""
    return plan_drafts(drafts, rates, cost).most
