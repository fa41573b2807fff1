"""What the tokens of an answer may be, as the batcher sees it."""

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Constraint(Protocol):
    """What the tokens of one answer may be; it has the state of that answer.

    Attributes:
        done: Whether the answer is complete, so that only an end-of-sequence token may follow.
    """

    done: bool

    def allow(self, logits: npt.NDArray[np.float32]) -> None:
        """Set the logits, shape [vocabulary], of all tokens that may not come next to minus infinity, in place."""

    def accept(self, token: int) -> None:
        """Go on after a token that was allowed."""


class ConstraintSource(Protocol):
    """A compiled grammar."""

    def start(self) -> Constraint:
        """Return the constraint at the beginning of an answer."""
