"""How many tokens to draft: as many as make the answers faster.

A step with drafts computes more tokens than one without, and gives more only as far as drafts are right. So what a
step costs and how often the drafts of each answer are right are both measured while the server runs.
"""

from collections.abc import Sequence

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
STEP_MEMORY = 0.98
MIN_GAIN = 1.05
"""How many times as fast a step with drafts must be, by the estimate: it is not exact."""


class AcceptanceRate:
    """How often the drafts of one answer are right."""

    def __init__(self) -> None:
        self._right = 0.0
        self._trials = 0.0

    @property
    def value(self) -> float:
        """The estimated chance that a draft is right if those before it are."""
        return (self._right + PRIOR_RATE * PRIOR_TRIALS) / (self._trials + PRIOR_TRIALS)

    def record(self, drafted: int, accepted: int) -> None:
        """Count the drafts of one step; those after the first wrong one say nothing."""
        trials = accepted + (accepted < drafted)
        for index in range(trials):
            self._forget(MEMORY)
            self._trials += 1
            self._right += index < accepted

    def skip(self) -> None:
        """Count a step in which nothing was drafted."""
        self._forget(RECOVERY)

    def _forget(self, kept: float) -> None:
        self._right *= kept
        self._trials *= kept


class StepCost:
    """What a step costs by the number of tokens that it computes: a fixed part, and one for each token."""

    def __init__(self) -> None:
        self._weight = self._tokens = self._squares = self._seconds = self._products = 0.0
        self._fixed, self._each = 1.0, TOKEN_COST

    def record(self, tokens: int, seconds: float) -> None:
        """Count a step.

        Args:
            tokens: Tokens computed, padding included.
            seconds: How long it took.
        """
        if self._weight > PRIOR_STEPS:
            seconds = min(seconds, 3 * self.of(tokens))  # another process had the processor
        self._weight = self._weight * STEP_MEMORY + 1
        self._tokens = self._tokens * STEP_MEMORY + tokens
        self._squares = self._squares * STEP_MEMORY + tokens * tokens
        self._seconds = self._seconds * STEP_MEMORY + seconds
        self._products = self._products * STEP_MEMORY + tokens * seconds
        self._fit()

    def of(self, tokens: int) -> float:
        """Return the estimated cost of a step with so many tokens; only ratios of two of them mean something."""
        return self._fixed + self._each * tokens

    def _fit(self) -> None:
        """Estimate the fixed cost and that of a token, by least squares drawn towards `TOKEN_COST`."""
        tokens, seconds = self._tokens / self._weight, self._seconds / self._weight
        expected = seconds * TOKEN_COST / (1 + TOKEN_COST * tokens)
        spread = max(0.0, self._squares - tokens * self._tokens)
        together = self._products - tokens * self._seconds
        each = (together + PRIOR_STEPS * expected) / (spread + PRIOR_STEPS)
        self._each = min(max(each, 0.01 * expected), seconds / tokens)
        self._fixed = seconds - self._each * tokens


def best_drafts(drafts: Sequence[int], rates: Sequence[float], cost: StepCost) -> int:
    """Return the most drafts of a row that a step should check; 0 for a step without drafts.

    Rows with fewer tokens are padded: a step computes as many for each row as the longest has.

    Args:
        drafts: How many drafts each row has.
        rates: The chance of each row's drafts to be right.
        cost: What steps cost.
    """
    rows = len(drafts)
    best, speed = 0, rows / cost.of(rows) * MIN_GAIN
    expected, chances = float(rows), list(zip(drafts, rates, strict=True))
    for most in range(1, max(drafts, default=0) + 1):
        # One more draft is right if all before it are.
        expected += sum(rate**most for count, rate in chances if count >= most)
        found = expected / cost.of(rows * (most + 1))
        if found > speed:
            best, speed = most, found
    return best
