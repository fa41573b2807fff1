"""What a data set says of the model that learns from it: the names of classes, the kind of labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_trainer.data.rows import Row

IGNORE_INDEX = -100
"""Label of a token that is not part of the loss."""

Facts = Mapping[str, Any]
"""What the rows of a data set have in common, as JSON; it is part of what `prepare` returns."""


class Targets:
    """Looks at the targets of all rows before any is tokenised. This one finds nothing; tasks with labels have others.

    Rows are added in order, those of the training sources first.
    """

    def add(self, row: Row) -> None:
        """Add a row of the training sources, from which validation rows may be split off."""

    def add_validation(self, row: Row) -> None:
        """Add a row of the validation sources.

        Raises:
            StageError: INVALID_DATASET: it has a target that no training row has.
        """

    def strata(self) -> npt.NDArray[np.int32] | None:
        """Return the class of each training row, int32 [rows], if each class gives its share of the validation rows."""
        return None

    def facts(self) -> Facts:
        """Return what was found. Called once, after all rows were added.

        Raises:
            StageError: INVALID_DATASET: no model can learn from them, for example because all labels are equal.
        """
        return {}

    def report(self) -> Mapping[str, Any]:
        """Return the fields of the data report that say what was found. Called after `facts`."""
        return {}
