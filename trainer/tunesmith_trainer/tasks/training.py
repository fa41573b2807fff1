"""The part of a task's interface that concerns how rows become batches and a loss that needs more than the batch."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from tunesmith_trainer.data.collate import OrderedDataset
    from tunesmith_trainer.data.token_store import TokenStore


class TaskTraining(ABC):  # noqa: B024 - the defaults are those of a loss on the rows' own targets
    """What most tasks need not say.

    Attributes:
        compares_with_start: Whether the loss compares the model with itself before training. What it needs of that
            model is computed before the first step (`train/reference.py`).
        step_values: Names of what a training step shows besides the loss.
    """

    compares_with_start: bool = False
    step_values: Sequence[str] = ()

    def row_lengths(self, store: TokenStore) -> npt.NDArray[np.integer[Any]]:
        """Return the tokens of each row, int [rows]."""
        return store.lengths

    def dataset(self, store: TokenStore, order: npt.NDArray[np.int64]) -> OrderedDataset:
        """Return the rows in an order, int [n], as the collator takes them."""
        from tunesmith_trainer.data.collate import OrderedDataset

        return OrderedDataset(store, order)

    def make_fast(self, model: Any, *, packing: bool) -> None:  # noqa: ANN401, B027 - a task may leave it
        """Change how a model is trained, not what it computes. Called once, before the collators are asked for.

        Args:
            model: The model that is trained.
            packing: Whether rows are packed.
        """

    def reference(self, outputs: Any, labels: Any) -> Any:  # noqa: ANN401
        """Return what the loss needs to know of a batch's rows from before training, float64 [rows, 2].

        Only called for a task that compares with the start.

        Args:
            outputs: Those of the model as it begins.
            labels: The labels of the batch.
        """
        raise NotImplementedError

    def take_step_values(self) -> Any:  # noqa: ANN401 - a tensor
        """Return the sums of `step_values` over the rows since the last call, and the number of rows, float64 [n + 1].

        None if there are none.
        """
        return None
