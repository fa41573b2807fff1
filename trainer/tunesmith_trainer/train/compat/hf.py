"""transformers: the hooks of its Trainer that have no public name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate.utils import DistributedType
from transformers import Trainer, TrainingArguments


class HookedTrainer(Trainer):
    """Names the private hooks of transformers' Trainer.

    Attributes:
        on_prepared: Called under DeepSpeed when the model is partitioned and no checkpoint is read yet.
    """

    on_prepared: Callable[[], None] | None = None

    @abstractmethod
    def count_targets(self, batches: list[Any], device: torch.device) -> torch.Tensor:
        """Return what the losses of an optimizer step are divided by, float32 []. Called before each step.

        Args:
            batches: The micro-batches of this process.
            device: Where the result goes.
        """

    @abstractmethod
    def write_checkpoint(self, write: Callable[[], None]) -> None:
        """Save a checkpoint.

        Args:
            write: Writes all state, as transformers does.
        """

    def accumulates(self, model: Any, *, is_last: bool) -> AbstractContextManager[Any]:  # noqa: ANN401
        """Return the context of one of several backward passes of a step: only in the last one processes add gradients.

        Args:
            model: The model as it is called, wrapped by DDP or DeepSpeed.
            is_last: Whether it is the step's last backward pass.
        """
        self.accelerator.gradient_state._set_sync_gradients(is_last)
        if is_last or self.accelerator.distributed_type == DistributedType.DEEPSPEED:
            return nullcontext()  # DeepSpeed asks for what was set
        context: AbstractContextManager[Any] = self.accelerator.no_sync(model)
        return context

    @abstractmethod
    def save_zero(self, folder: str) -> None:
        """Write DeepSpeed's part of a checkpoint: weights and the optimizer's state."""

    @abstractmethod
    def load_zero(self, folder: str) -> None:
        """Read DeepSpeed's part of a checkpoint."""

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor:
        return self.count_targets(batch_samples, device)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # noqa: ANN401
        self.write_checkpoint(lambda: super(HookedTrainer, self)._save_checkpoint(model, trial))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.is_deepspeed_enabled:
            self.model_wrapped.save_checkpoint = lambda folder, **_: self.save_zero(folder)
        super()._save_optimizer_and_scheduler(output_dir)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:  # noqa: ANN401
        folder = resume_from_checkpoint if self.is_deepspeed_enabled else None
        prepared = super()._prepare_for_training(
            max_steps, train_dataloader, None if folder else resume_from_checkpoint
        )
        if self.is_deepspeed_enabled and self.on_prepared is not None:
            self.on_prepared()
        if folder:
            self.load_zero(folder)
            self._load_optimizer_and_scheduler(folder)  # only the scheduler's state
            # DeepSpeed's own checkpoints have the rates, which a scheduler sets after each step only.
            rates = self.lr_scheduler.get_last_lr()
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        return prepared


def use_one_gpu(arguments: TrainingArguments) -> None:
    """Keep a process from spreading over several GPUs by DataParallel, which has no setting."""
    arguments._n_gpu = min(arguments._n_gpu, 1)
