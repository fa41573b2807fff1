"""Progress of training: a bar in a terminal, log lines elsewhere, the training log, and `progress.json`."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

from tunesmith_api.resolve import Resolved
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.runtime.progress import ProgressSink
from tunesmith_trainer.runtime.progress_report import flush_progress
from tunesmith_trainer.train.training_log import TrainingLog
from tunesmith_trainer.train.validation_loss import ValidationLoss

log = logging.getLogger(__name__)

_WINDOW = 20  # steps over which the speed is measured


@dataclass
class Progress:
    """Reports the progress of training. One process of the run uses it.

    Attributes:
        work: The work folder whose `progress.json` and training log are written.
        resolved: Values of the run.
        tokens: int64 [total_steps], tokens trained on up to the end of each step.
        adjusted: What was changed after training ran out of memory; None if nothing was.
    """

    work: WorkFolder
    resolved: Resolved
    tokens: npt.NDArray[np.int64]
    adjusted: str | None = None
    _log: TrainingLog | None = None
    _bars: Bars | None = None
    _newest: dict[str, Any] = field(default_factory=dict)
    _eval_loss: float | None = None
    _best: tuple[int, float] | None = None
    _stopped: str | None = None
    _logged: str = ""
    _times: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_WINDOW + 1))

    def __post_init__(self) -> None:
        self._sink = ProgressSink(self.work, Stage.TRAIN, log)
        self._total = self.resolved.total_steps

    def start(self, step: int, validation: ValidationLoss) -> None:
        """Start, or resume after `step` steps.

        Args:
            step: Steps that are done.
            validation: The losses on the validation rows so far.
        """
        self._note(validation)
        self._log = TrainingLog(self.work.training_log, step)
        self._times.append((step, time.monotonic()))
        console = Console(stderr=True)
        if console.is_terminal:
            self._bars = Bars(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[values]}"),
                console=console,
            )
            self._bars.add_task("training", total=self._total, completed=step, values="")
            self._bars.start()
        else:
            log.info("training from step %d to %d", step, self.resolved.total_steps)
        self._newest = {"step": step}
        self._show(important=True)

    def step(
        self,
        step: int,
        loss: float,
        learning_rate: float,
        gradient_norm: float | None,
        values: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Report that a step is done. Steps count from 1; `values` are what the task shows of it besides."""
        self._times.append((step, time.monotonic()))
        self._newest = {
            "step": step,
            "epoch": self.epoch(step),
            "loss": loss,
            "learningRate": learning_rate,
            "gradNorm": gradient_norm,
            **values,
            "tokens": int(self.tokens[step - 1]),
            "tokensPerSecond": self._tokens_per_second(),
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        if self._log:
            self._log.add(dict(self._newest))
        self._show()

    def evaluated(
        self,
        loss: float,
        validation: ValidationLoss,
        stopped: str | None,
        values: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Report the loss of an evaluation after the newest step.

        Args:
            loss: The loss, in nats.
            validation: All losses on the validation rows, this one included.
            stopped: Why training stops now, before its last step; None if it does not.
            values: What the task shows of the evaluation besides.
        """
        self._eval_loss = loss
        self._note(validation)
        if stopped is not None:
            self._stopped, self._total = stopped, self._newest["step"]
        if self._log:
            self._log.amend(evalLoss=loss, **values)
        self._show(important=True)

    def saving(self) -> None:
        """Write the training log up to the newest step. Called before a checkpoint is written."""
        if self._log:
            self._log.flush()

    def end(self) -> None:
        """Report the last step and why it is the last, and remove the bar."""
        self.saving()
        if self._newest:
            self._show(important=True)
            flush_progress()
        if self._bars:
            self._bars.stop()
            self._bars = None
        if self._stopped is not None:
            log.info("stopped early, %s", self._stopped)

    def epoch(self, step: int) -> float:
        """Return the number of passes over the training rows after `step` steps."""
        return round(step * self.resolved.global_batch_size / self.resolved.train_rows, 4)

    def _note(self, validation: ValidationLoss) -> None:
        if validation.best_step is not None and validation.best is not None:
            self._best = validation.best_step, validation.best

    def _tokens_per_second(self) -> float:
        """Return the speed of the last steps, padding not counted."""
        (first, since), (last, now) = self._times[0], self._times[-1]
        done = self.tokens[last - 1] - (self.tokens[first - 1] if first else 0)
        return round(float(done) / max(now - since, 1e-9), 1)

    def _eta(self) -> float | None:
        """Return the estimated seconds until the end; None before the first step."""
        (first, since), (last, now) = self._times[0], self._times[-1]
        if last == first:
            return None
        left = self.tokens[self._total - 1] - self.tokens[last - 1]
        done = self.tokens[last - 1] - (self.tokens[first - 1] if first else 0)
        return round(float(left / max(done, 1)) * (now - since), 1)

    def _show(self, *, important: bool = False) -> None:
        """Show the newest values, unless others were shown just before and they are not important."""
        step, eta = self._newest["step"], self._eta()
        status = {
            "step": step,
            "totalSteps": self._total,
            "epoch": self.epoch(step),
            "loss": _short(self._newest.get("loss")),
            "evalLoss": _short(self._eval_loss),
            "bestStep": self._best[0] if self._best else None,
            "bestEvalLoss": _short(self._best[1]) if self._best else None,
            "stoppedEarly": self._stopped,
            "adjusted": self.adjusted,
            "tokensPerSecond": self._newest.get("tokensPerSecond"),
            "etaSeconds": eta,
        }
        self._sink.report(status, always=important)
        if self._bars:
            self._bars.update(self._bars.task_ids[0], total=self._total, completed=step, values=self._values(eta))
        elif "loss" in self._newest:
            line = f"step {step}/{self.resolved.total_steps}  {self._values(eta)}"
            if not important:
                self._sink.log(line)
            elif line != self._logged:  # the end of training often has nothing to add to the last evaluation
                self._sink.log(line, always=True)
                self._logged = line

    def _values(self, eta: float | None) -> str:
        """Return the newest values as one line of text."""
        parts = []
        if "loss" in self._newest:
            parts += [f"loss {self._newest['loss']:.4f}"]
        if "rewardAccuracy" in self._newest:
            parts += [f"preferred {self._newest['rewardAccuracy']:.0%}"]
        if self._eval_loss is not None:
            parts += [f"eval {self._eval_loss:.4f}"]
        if "tokensPerSecond" in self._newest:
            parts += [f"{self._newest['tokensPerSecond']:,.0f} tokens/s"]
        if eta:
            parts += [f"{eta // 60:.0f}:{eta % 60:02.0f} left"]
        return "  ".join(parts)


def _short(loss: float | None) -> float | None:
    """Return a loss rounded for the status; the training log has all digits."""
    return None if loss is None else round(loss, 4)
