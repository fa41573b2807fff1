"""What the model says of the rows before it is trained, for a loss that compares the model with that.

It is computed once, before the first step, and kept in the work folder: a run that goes on from a checkpoint reads it,
so that it does the same steps to the bit, and a run that has no adapter to switch off needs no second model. If the
file is lost, it is computed anew from the same weights: the model is loaded as it began before a checkpoint is read.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tunesmith_api.artifact import digest_of_json
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.runtime.steps import StepProgress
from tunesmith_trainer.storage.files import read_json, write_json
from tunesmith_trainer.train.trainer import FineTuner

log = logging.getLogger(__name__)

Values = npt.NDArray[np.float64]
_TITLE = "computing what the model says before training"


def provide_reference(trainer: FineTuner, work: WorkFolder) -> None:
    """Give the data sets of a run their reference. A collective operation; the model must be as it begins.

    Args:
        trainer: The run.
        work: Its work folder.
    """
    sets = [dataset for dataset in (trainer.train_dataset, trainer.eval_dataset) if dataset is not None]
    rows = [np.unique(dataset.order) for dataset in sets]
    file = _File(work, trainer, [len(part) for part in rows])
    values = file.read()
    if _smallest(int(values is not None), trainer.args.device) == 0:
        values = _compute(trainer, work, sets, rows)
        if os.environ.get("LOCAL_RANK", "0") == "0":
            file.write(values)
    if values is None:
        raise AssertionError("either read or computed")
    parts = np.split(values, np.cumsum([len(part) for part in rows])[:-1])
    for dataset, part, own in zip(sets, rows, parts, strict=True):
        dataset.reference[part] = own


class _File:
    """The file that keeps it."""

    def __init__(self, work: WorkFolder, trainer: FineTuner, rows: list[int]) -> None:
        self._path = work.stage(Stage.TRAIN) / "reference.npy"
        self._rows = sum(rows)
        self._inputs = digest_of_json({"job": trainer.job, "precision": trainer.resolved.precision, "rows": rows})

    def read(self) -> Values | None:
        """Return the values, float64 [rows, 2]; None if there are none, or those of another run."""
        facts = read_json(self._path.with_suffix(".json"))
        if not facts or facts.get("inputs") != self._inputs or not self._path.exists():
            return None
        values: Values = np.load(self._path, allow_pickle=False)
        return values if len(values) == self._rows else None

    def write(self, values: Values) -> None:
        """Write the values. The file that says what they are comes last."""
        note, temporary = self._path.with_suffix(".json"), self._path.with_name(f".reference.{os.getpid()}.tmp")
        note.unlink(missing_ok=True)
        with temporary.open("wb") as file:
            np.save(file, values)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        write_json(note, {"inputs": self._inputs})


@torch.no_grad()
def _compute(trainer: FineTuner, work: WorkFolder, sets: list[Any], rows: list[Any]) -> Values:
    """Return the values of all rows, float64 [rows, 2]. Each process computes a part of the batches."""
    trainer.model.eval()
    places = [(index, int(row)) for index, part in enumerate(rows) for row in part]
    lengths = np.concatenate([trainer.task.row_lengths(s.store)[part] for s, part in zip(sets, rows, strict=True)])
    order = np.argsort(-lengths, kind="stable")  # the longest first: if memory is short, this is known at once
    size, world, rank = trainer.resolved.micro_batch_size, trainer.args.world_size, trainer.args.process_index
    values = torch.zeros(len(places), 2, dtype=torch.float64, device=trainer.args.device)
    with _progress(trainer, work, len(places)) as advance, _autocast(trainer):
        for first in range(0, len(places), size * world):
            mine = order[first + rank * size : min(first + (rank + 1) * size, first + size * world)].tolist()
            # A process without rows takes part too, as ZeRO 3 gathers the weights in step.
            chosen = [places[place] for place in mine or order[:1].tolist()]
            batch = trainer.eval_collator([sets[index].of_row(row) for index, row in chosen])
            batch = {name: _moved(value, trainer.args.device) for name, value in batch.items()}
            labels = batch.pop("labels")
            found = trainer.task.reference(trainer.model(**batch), labels)
            if mine:
                values[mine] = found.to(values.device)
            advance(min(size * world, len(places) - first))
    if world > 1:
        torch.distributed.all_reduce(values)
    return values.cpu().numpy()


def _progress(trainer: FineTuner, work: WorkFolder, total: int) -> AbstractContextManager[Callable[[int], None]]:
    if trainer.args.process_index:
        return nullcontext(lambda count: None)
    return StepProgress(work, Stage.TRAIN, log).track(_TITLE, total)


def _autocast(trainer: FineTuner) -> AbstractContextManager[Any]:
    """Return the context that the model computes in; DeepSpeed has one of its own."""
    return nullcontext() if trainer.is_deepspeed_enabled else trainer.accelerator.autocast()


def _moved(value: Any, device: torch.device) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {name: _moved(part, device) for name, part in value.items()}
    return value.to(device) if isinstance(value, torch.Tensor) else value


def _smallest(value: int, device: torch.device) -> int:
    """Return the smallest of the numbers of all processes."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return value
    found = torch.tensor(value, device=device)
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MIN)
    return int(found)
