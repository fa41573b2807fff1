"""What the tokens of an answer may be, as the batcher sees it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt


class ConstraintError(Exception):
    """It cannot be said which tokens may come next; the message is for the user."""


class Constraint(Protocol):
    """What the tokens of one answer may be; it has the state of that answer.

    Attributes:
        done: Whether the answer is complete, so that only an end-of-sequence token may follow.
    """

    done: bool

    def allow(self, logits: npt.NDArray[np.float32]) -> None:
        """Set the logits, shape [vocabulary], of all tokens that may not come next to minus infinity, in place.

        Raises:
            ConstraintError: This cannot be found out within the limits.
        """

    def accept(self, token: int) -> None:
        """Go on after a token that was allowed.

        Raises:
            ConstraintError: The grammar cannot be followed any further.
        """

    def valid(self, tokens: Sequence[int]) -> int:
        """Return how many of these tokens may come next, one after the other."""

    def fork(self) -> "Constraint":
        """Return a copy in the same state, to look ahead with.

        Raises:
            ConstraintError: The grammar cannot be followed any further.
        """


class ConstraintSource(Protocol):
    """A compiled grammar."""

    def start(self) -> Constraint:
        """Return the constraint at the beginning of an answer."""
