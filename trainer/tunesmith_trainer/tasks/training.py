"""The part of a task's interface that `train` uses: how rows become batches, and what their loss is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith_api.choices.speed import PackingFacts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from tunesmith_trainer.data.collate import OrderedDataset
    from tunesmith_trainer.data.token_store import TokenStore


class TaskTraining(ABC):
    """How a task's rows are trained on.

    Attributes:
        name: Value of `spec.task`.
        compares_with_start: Whether the loss compares the model with itself before training. What it needs of that
            model is computed before the first step (`train/reference.py`).
        step_values: Names of what a training step shows besides the loss.
    """

    name: str
    compares_with_start: bool = False
    step_values: Sequence[str] = ()

    @abstractmethod
    def collator(self, model: Any, multiple: int) -> Any:  # noqa: ANN401
        """Return the data collator; a batch is a mapping with the model's inputs and `labels`.

        Args:
            model: The model to train.
            multiple: Lengths are padded to a multiple of this.
        """

    def packing_facts(self, base: Path, longest: int) -> PackingFacts:
        """Return what stands against packing rows.

        Args:
            base: Folder of the base model.
            longest: Tokens of the longest row.
        """
        return PackingFacts(inexact=f"rows of {self.name} are not packed")

    def pack_collator(self, model: Any, *, gpu: bool) -> Any:  # noqa: ANN401
        """Return the collator of packs; see `data/packing.py`. Only called for a task whose rows can be packed.

        Args:
            model: The model.
            gpu: Whether training runs on GPUs.
        """
        raise NotImplementedError

    def make_fast(self, model: Any, *, packing: bool) -> None:  # noqa: ANN401, B027 - a task may leave it
        """Change how a model is trained, not what it computes. Called once, before the collators are asked for.

        Args:
            model: The model that is trained.
            packing: Whether rows are packed.
        """

    def loss_sum(self, outputs: Any, labels: Any) -> Any:  # noqa: ANN401
        """Return the loss of a batch, summed over its targets, float32 []: by default their cross-entropy, in nats."""
        from tunesmith_trainer.models.loss import loss_sum

        return loss_sum(outputs.logits, labels) if outputs.loss is None else outputs.loss

    def target_count(self, labels: Any) -> Any:  # noqa: ANN401
        """Return the number of targets of a batch, int64 []: by default the tokens that have a label."""
        from tunesmith_trainer.models.loss import target_count

        return target_count(labels)

    def row_lengths(self, store: TokenStore) -> npt.NDArray[np.integer[Any]]:
        """Return the tokens of each row, int [rows]."""
        return store.lengths

    def dataset(self, store: TokenStore, order: npt.NDArray[np.int64]) -> OrderedDataset:
        """Return the rows in an order, int [n], as the collator takes them."""
        from tunesmith_trainer.data.collate import OrderedDataset

        return OrderedDataset(store, order)

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
