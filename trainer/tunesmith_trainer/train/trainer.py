"""transformers' Trainer, with the loss, evaluation, checkpoints and interrupts of this project."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_callback import ExportableState

from tunesmith_api.resolve import Resolved
from tunesmith_trainer.tasks.base import Task
from tunesmith_trainer.train.batch_rows import BatchRows
from tunesmith_trainer.train.checkpointing.best import BestWeights
from tunesmith_trainer.train.checkpointing.checkpoints import checkpoint_facts, rotate, seal
from tunesmith_trainer.train.checkpointing.epochs import EpochWeights
from tunesmith_trainer.train.checkpointing.outbox import Outbox
from tunesmith_trainer.train.checkpointing.shards import CheckpointShard
from tunesmith_trainer.train.checkpointing.zero_state import load_partition, save_partition
from tunesmith_trainer.train.compat.deepspeed import Partition
from tunesmith_trainer.train.compat.hf import HookedTrainer
from tunesmith_trainer.train.distributed.interrupt import Interrupt
from tunesmith_trainer.train.diverged import diverged
from tunesmith_trainer.train.mean_loss import mean_loss
from tunesmith_trainer.train.parameter_groups import loraplus_optimizer
from tunesmith_trainer.train.progress import Progress
from tunesmith_trainer.train.step_values import step_values
from tunesmith_trainer.train.validation_loss import ValidationLoss


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
        rows: The rows of each step.
        validation: The losses on the validation rows so far.
        best: The best weights so far.
        epochs: The weights at the ends of the newest epochs.
        save_weights: Writes the weights as they are into a folder; a collective operation. Set before training.
        stopped_early: Why training has stopped before its last step; None if it has not.
        eval_collator: Collates rows to evaluate on, which are not packed.
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
        rows: BatchRows,
        validation: ValidationLoss,
        best: BestWeights,
        epochs: EpochWeights,
        eval_collator: Any,  # noqa: ANN401
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
        self.rows = rows
        self.validation = validation
        self.best = best
        self.epochs = epochs
        self.save_weights: Callable[[Path], None] | None = None
        self.stopped_early: str | None = None
        self.eval_collator = eval_collator
        self.stopping = False
        self.seconds = 0.0
        self.step_seconds: list[float] = []
        self._passes = 0  # forward passes of this step so far
        self._loss: float | None = None  # of the step before
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
        parts = [part for batch in batches for part in (batch if isinstance(batch, list) else [batch])]
        count = sum((self.task.target_count(part["labels"]) for part in parts), torch.tensor(0))
        values = torch.tensor([float(count), float(self.interrupt.requested)], device=device, dtype=torch.float64)
        if self.args.world_size > 1:
            torch.distributed.all_reduce(values)
        self.stopping = bool(values[1] > 0)
        self._passes = 0
        return values[0].clamp(min=1).float()

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:  # noqa: ANN401
        """Create AdamW, for LoRA+ with a higher learning rate for the matrices B."""
        if vars(self).get("optimizer") is None:
            self.optimizer = loraplus_optimizer(self, model, self.resolved.adapter)
        return super().create_optimizer(model)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:  # noqa: ANN401
        """Do one forward and backward pass, or those of all packs of a step.

        Raises:
            StageError: The loss is not finite.
        """
        if isinstance(inputs, list):
            losses = []
            for number, pack in enumerate(inputs, 1):
                with self.accumulates(model, is_last=number == len(inputs)):
                    losses.append(self.training_step(model, pack, num_items_in_batch))
            return torch.stack(losses).sum()
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            step = self.state.global_step + 1
            rows = self.rows.described(self.rows.of_pass(step, self._passes))
            raise diverged(f"the loss of step {step} is {loss.item()}", step, self.resolved, rows, self._loss)
        self._passes += 1
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
            what = f"the gradient's norm at step {step} is {norm}, at loss {logs['loss']}"
            raise diverged(what, step, self.resolved, self.rows.described(self.rows.of_step(step)), self._loss)
        self._loss = logs.get("loss", self._loss)
        values = step_values(self.task, self.args.device) if "loss" in logs else {}
        if self.progress and "loss" in logs:
            self.progress.step(self.state.global_step, logs["loss"], logs["learning_rate"], norm, values)

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:  # noqa: ANN401
        """Return `{eval_loss}`, the mean loss of all learned tokens of the evaluation rows, in nats."""
        self.model.eval()
        mean = mean_loss(
            self.model,
            lambda rows: self._prepare_inputs(self.eval_collator(rows)),
            self.task,
            self.eval_dataset,
            self.resolved.micro_batch_size,
        )
        if not math.isfinite(mean):
            step = self.state.global_step
            raise diverged(f"the evaluation loss at step {step} is {mean}", step, self.resolved)
        metrics = {"eval_loss": mean}
        self.log(metrics)
        self.control.should_evaluate = False  # else transformers evaluates the last step twice
        self._note_evaluation(mean, step_values(self.task, self.args.device, "eval"))
        return metrics

    def _note_evaluation(self, loss: float, values: Mapping[str, float]) -> None:
        """Keep the weights if the loss is the lowest so far, and stop training if it no longer falls."""
        step, total = self.state.global_step, self.resolved.total_steps
        is_best = self.validation.note(step, loss)
        if step < total and (why := self.validation.stop_reason):
            self.stopped_early = f"after step {step} of {total}: {why}"
            self.control.should_training_stop = True
        if self.progress:
            self.progress.evaluated(loss, self.validation, self.stopped_early, values)
        if is_best and self.resolved.keeps_best and not self.is_done and self.save_weights is not None:
            self.best.save(step, self.save_weights)

    @property
    def is_done(self) -> bool:
        """Whether the last step is done, of the run or by early stopping."""
        return self.stopped_early is not None or self.state.global_step >= self.resolved.total_steps

    @property
    def published_step(self) -> int:
        """The step whose weights are published, once training is done."""
        best = self.validation.best_step if self.resolved.keeps_best else None
        return best or int(self.state.global_step)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the weights, unless DeepSpeed saves and loads them as part of its own state."""
        if not self.is_deepspeed_enabled:
            super().save_model(output_dir, _internal_call)

    def save_zero(self, folder: str) -> None:
        """Write this process's part of the weights and of the optimizer's state."""
        save_partition(self._partition(), Path(folder))

    def load_zero(self, folder: str) -> None:
        """Read this process's part of the weights and of the optimizer's state."""
        load_partition(self._partition(), Path(folder))

    def _partition(self) -> Partition:
        return Partition(self.deepspeed, {id(weight): name for name, weight in self.model.named_parameters()})

    def write_checkpoint(self, write: Callable[[], None]) -> None:
        """Save all state, seal it when every process has written its part, and remove old checkpoints.

        After the last step nothing is saved: the final weights are written next, which takes less time than a
        checkpoint that only a failure in between could use.
        """
        if self.is_done:
            return
        if self.progress:
            self.progress.saving()
        write()
        self.barrier()
        folder = Path(self.args.output_dir)
        checkpoint = folder / f"checkpoint-{self.state.global_step}"
        self.best.link_into(checkpoint)
        self.epochs.link_into(checkpoint)
        if self.shard.is_writer:
            seal(checkpoint, checkpoint_facts(self.job, self.resolved), self.shard.index, self.shard.count)
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


class _Steps(TrainerCallback, ExportableState):
    """Hooks around each step, and what a checkpoint holds of the evaluations."""

    def __init__(self, trainer: FineTuner) -> None:
        self.trainer = trainer
        self._step_began = 0.0

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": self.trainer.validation.state()}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        # Otherwise dropout would be the same in all processes. A resumed run loads its random states after this.
        torch.manual_seed(args.seed + args.process_index)
        stored = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        self.trainer.validation.restore(stored["attributes"])
        if self.trainer.progress:
            self.trainer.progress.start(state.global_step, self.trainer.validation)
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
        if trainer.epochs.is_due(state.global_step) and trainer.save_weights is not None:
            trainer.epochs.save(state.global_step, trainer.save_weights)
            control.should_evaluate = trainer.eval_dataset is not None
        if trainer.stopping or (args.world_size == 1 and trainer.interrupt.requested):
            control.should_save = control.should_training_stop = True
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        self.trainer.interrupt.stepping = False
        self.trainer.seconds += time.monotonic()
