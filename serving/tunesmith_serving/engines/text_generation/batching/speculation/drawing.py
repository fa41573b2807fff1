"""Which tokens a draft model proposes.

A draft is drawn from the draft model's distribution by the very random number with which the served model's token is
drawn at that place. The token is that of the served model whatever is drafted; the more alike the two distributions
are, the more often the same number gives the same token of both.
"""

from collections.abc import Sequence as Items

import numpy as np
import numpy.typing as npt

from tunesmith_serving.engines.text_generation.batching.constraint import Constraint, ConstraintError
from tunesmith_serving.engines.text_generation.batching.sampling_rows import sample_rows
from tunesmith_serving.engines.text_generation.batching.sequence import Sequence


class DraftRow:
    """The drafts of one request in a step.

    Attributes:
        sequence: The request.
        drafts: Its drafts so far.
        ended: Whether there are no more of them.
    """

    def __init__(self, sequence: Sequence, most: int) -> None:
        """Begin.

        Args:
            sequence: The request.
            most: The most drafts.
        """
        self.sequence = sequence
        self.drafts: list[int] = []
        self.ended = False
        self._most = most
        self._constraint: Constraint | None = None
        try:
            self._constraint = sequence.look_ahead()
        except ConstraintError:
            self.ended = True

    def mask(self, logits: npt.NDArray[np.float32]) -> None:
        """Leave only tokens that may come next; logits of shape [vocabulary], changed in place."""
        if self._constraint is None or self.ended:
            return
        try:
            self._constraint.allow(logits)
        except ConstraintError:
            self.ended = True

    def add(self, token: int, logit: float) -> None:
        """Add a draft."""
        if self.ended or not np.isfinite(logit):
            self.ended = True
            return
        self.drafts.append(token)
        self.ended = len(self.drafts) >= self._most
        if self._constraint is None or self.ended:
            return
        try:
            self._constraint.accept(token)
            self.ended = self._constraint.done
        except ConstraintError:
            self.ended = True

    @property
    def uniform(self) -> float:
        """The random number of the next draft's place; 0 if the request takes the likeliest token."""
        if self.ended or self.sequence.takes_likeliest:
            return 0.0
        return self.sequence.uniforms.peek(len(self.drafts) + 1)[-1]


def draw_drafts(rows: Items[DraftRow], logits: npt.NDArray[np.float32]) -> None:
    """Add a draft to each row that has not ended.

    Args:
        rows: The rows.
        logits: Those of the draft model, shape [rows, vocabulary]; may be changed.
    """
    for row, each in zip(rows, logits, strict=True):
        row.mask(each)
    uniforms = np.array([row.uniform for row in rows])
    tokens = sample_rows(logits, [row.sequence.params for row in rows], uniforms)
    for index, row in enumerate(rows):
        row.add(int(tokens[index]), float(logits[index, tokens[index]]))
