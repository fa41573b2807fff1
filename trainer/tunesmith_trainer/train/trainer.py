"""transformers' Trainer, with the loss, evaluation, checkpoints and interrupts of this project."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.resolve import Resolved
from tunesmith_trainer.data.collate import OrderedDataset
from tunesmith_trainer.tasks.base import Task
from tunesmith_trainer.train.checkpointing.checkpoints import rotate, seal
from tunesmith_trainer.train.checkpointing.outbox import Outbox
from tunesmith_trainer.train.checkpointing.shards import CheckpointShard
from tunesmith_trainer.train.compat.hf import HookedTrainer
from tunesmith_trainer.train.distributed.interrupt import Interrupt
from tunesmith_trainer.train.parameter_groups import loraplus_groups
from tunesmith_trainer.train.progress import Progress

_LOWER_RATE = "Lower spec.training.learningRate, or raise spec.training.warmupRatio"


class FineTuner(HookedTrainer):
    """Trains with the loss averaged over the learned tokens of the global batch, on whatever number of processes.

    Attributes:
        job: Digest of what the run depends on; a checkpoint of another run is not resumed from.
        resolved: Values of the run.
        task: What the model learns to do.
        progress: Reports progress; None in all processes but the first.
        interrupt: Whether training is to stop.
        shard: The shard of each checkpoint that is on this node.
        outbox: Receives the checkpoints to upload; None if none are uploaded.
        keep_checkpoints: How many checkpoints are kept.
        stopping: Whether all processes have agreed to stop after this step.
        seconds: Duration of the training loop.
        step_seconds: Duration of each step, without evaluations and checkpoints.
    """

    def __init__(
        self,
        *,
        job: str,
        resolved: Resolved,
        task: Task,
        progress: Progress | None,
        interrupt: Interrupt,
        shard: CheckpointShard,
        outbox: Outbox | None,
        keep_checkpoints: int,
        **options: Any,  # noqa: ANN401 - those of transformers' Trainer
    ) -> None:
        self.job = job
        self.resolved = resolved
        self.task = task
        self.progress = progress
        self.interrupt = interrupt
        self.shard = shard
        self.outbox = outbox
        self.keep_checkpoints = keep_checkpoints
        self.stopping = False
        self.seconds = 0.0
        self.step_seconds: list[float] = []
        super().__init__(compute_loss_func=self._mean_loss, **options)
        self.remove_callback(PrinterCallback)
        # First, so that the others see the right epoch.
        self.callback_handler.callbacks.insert(0, _Steps(self))

    def _mean_loss(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
        """Return a micro-batch's part of the mean loss over the targets of the global batch."""
        loss: torch.Tensor = self.task.loss_sum(outputs, labels)
        return loss / num_items_in_batch

    def count_targets(self, batches: list[Any], device: torch.device) -> torch.Tensor:
        """Return the learned tokens of the global batch, float32 [].

        The request to stop is part of the same reduction, so all processes stop after the same step.
        """
        count = sum((self.task.target_count(batch["labels"]) for batch in batches), torch.tensor(0))
        values = torch.tensor([float(count), float(self.interrupt.requested)], device=device, dtype=torch.float64)
        if self.args.world_size > 1:
            torch.distributed.all_reduce(values)
        self.stopping = bool(values[1] > 0)
        return values[0].clamp(min=1).float()

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:  # noqa: ANN401
        """Create AdamW, for LoRA+ with a higher learning rate for the matrices B."""
        adapter = self.resolved.adapter
        if vars(self).get("optimizer") is None and adapter is not None and adapter.loraplus_lr_ratio != 1:
            trained = self.model if model is None else model
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, trained)
            decayed, decay = set(self.get_decay_parameter_names(trained)), self.args.weight_decay
            groups = loraplus_groups(trained, decayed, options["lr"], adapter.loraplus_lr_ratio, decay)
            self.optimizer = kind(groups, **options)
        return super().create_optimizer(model)

    def training_step(self, *arguments: Any, **options: Any) -> torch.Tensor:  # noqa: ANN401
        """Do one forward and backward pass.

        Raises:
            StageError: The loss is not finite.
        """
        loss: torch.Tensor = super().training_step(*arguments, **options)
        if not torch.isfinite(loss):
            step = self.state.global_step + 1
            raise StageError(Reason.TRAINING_DIVERGED, f"the loss of step {step} is {loss.item()}", _LOWER_RATE)
        return loss

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ANN401
        """Return 0: the count is not used, and computing it visits all modules in each step."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Report the values of a step."""
        super().log(logs, start_time)
        self.state.log_history.clear()  # the training log is the history; here it would grow in every checkpoint
        norm = logs.get("grad_norm")
        if norm is not None and not math.isfinite(norm):
            step = self.state.global_step
            raise StageError(
                Reason.TRAINING_DIVERGED,
                f"the gradient's norm at step {step} is {norm}, at loss {logs['loss']}",
                _LOWER_RATE,
            )
        if self.progress and "loss" in logs:
            self.progress.step(self.state.global_step, logs["loss"], logs["learning_rate"], norm)

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:  # noqa: ANN401
        """Return `{eval_loss}`, the mean loss of all learned tokens of the evaluation rows, in nats."""
        rows: OrderedDataset = self.eval_dataset
        size, world, rank = self.resolved.micro_batch_size, self.args.world_size, self.args.process_index
        rounds = -(-len(rows) // (size * world))
        collate = self.data_collator
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        self.model.eval()
        for number in range(rank, rounds * world, world):
            # Each process takes part in each round, as ZeRO 3 gathers the weights in step; a late one has no rows left.
            indices = range(number * size, min((number + 1) * size, len(rows)))
            batch = self._prepare_inputs(collate([rows[i] for i in indices] or [rows[0]]))
            labels = batch.pop("labels")
            outputs = self.model(**batch)
            if indices:
                loss = self.task.loss_sum(outputs, labels)
                sums += torch.stack([loss.double(), self.task.target_count(labels).double()])
        if world > 1:
            torch.distributed.all_reduce(sums)
        mean = float(sums[0] / sums[1].clamp(min=1))
        if not math.isfinite(mean):
            step = self.state.global_step
            raise StageError(Reason.TRAINING_DIVERGED, f"the evaluation loss at step {step} is {mean}", _LOWER_RATE)
        metrics = {"eval_loss": mean}
        self.log(metrics)
        if self.progress:
            self.progress.evaluated(mean)
        return metrics

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the weights, unless DeepSpeed saves and loads them as part of its own state."""
        if not self.is_deepspeed_enabled:
            super().save_model(output_dir, _internal_call)

    def write_checkpoint(self, write: Callable[[], None]) -> None:
        """Save all state, seal it when every process has written its part, and remove old checkpoints.

        After the last step nothing is saved: the final weights are written next, which takes less time than a
        checkpoint that only a failure in between could use.
        """
        if self.state.global_step >= self.resolved.total_steps:
            return
        if self.progress:
            self.progress.saving()
        write()
        self.barrier()
        folder = Path(self.args.output_dir)
        checkpoint = folder / f"checkpoint-{self.state.global_step}"
        if self.shard.is_writer:
            about = {"job": self.job, "strategy": self.resolved.strategy, "worldSize": self.args.world_size}
            seal(checkpoint, about, self.shard.index, self.shard.count)
        if self.outbox:
            self.outbox.offer(checkpoint, self.shard)
        if self.shard.is_writer:
            rotate(folder, self.keep_checkpoints)
        self.barrier()

    def seconds_per_step(self) -> float | None:
        """Return the median duration of a step, but for the first one if there are others; None for no step."""
        times = self.step_seconds[1:] or self.step_seconds
        return float(f"{statistics.median(times):.4g}") if times else None

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.args.world_size > 1:
            torch.distributed.barrier()


class _Steps(TrainerCallback):
    """Hooks around each step."""

    def __init__(self, trainer: FineTuner) -> None:
        self.trainer = trainer
        self._step_began = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        # Otherwise dropout would be the same in all processes. A resumed run loads its random states after this.
        torch.manual_seed(args.seed + args.process_index)
        if self.trainer.progress:
            self.trainer.progress.start(state.global_step)
        self.trainer.interrupt.stepping = True
        self.trainer.seconds = -time.monotonic()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        self._step_began = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:  # noqa: ANN401
        resolved, trainer = self.trainer.resolved, self.trainer
        trainer.step_seconds.append(time.monotonic() - self._step_began)
        trainer.interrupt.note_step()
        # For transformers the run is a single epoch, as the order of rows is given.
        state.epoch = state.global_step * resolved.global_batch_size / resolved.train_rows
        if trainer.stopping or (args.world_size == 1 and trainer.interrupt.requested):
            control.should_save = control.should_training_stop = True
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        self.trainer.interrupt.stepping = False
        self.trainer.seconds += time.monotonic()
