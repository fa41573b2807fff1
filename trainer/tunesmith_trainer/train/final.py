"""Writes the trained weights for the publish stage."""

from __future__ import annotations

import shutil
from collections.abc import Container, Iterator
from pathlib import Path

import torch

from tunesmith_api.failures import StageError
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.methods.base import Method
from tunesmith_trainer.train.compat.deepspeed import whole, whole_float32
from tunesmith_trainer.train.moved import Fingerprints, fingerprints, require_moved
from tunesmith_trainer.train.trainer import FineTuner

ADAPTER = "default"
"""The name of the adapter in peft, which is a part of the names of its tensors."""

Weights = Iterator[tuple[str, torch.Tensor]]


def save_final(trainer: FineTuner, work: WorkFolder, base: Path, method: Method, initial: Fingerprints) -> None:
    """Write `final/` as the method saves it. All processes of the run take part.

    No process has more of it in memory than one tensor, besides what it holds for training.

    Args:
        trainer: The trainer, at the end of training.
        work: The work folder.
        base: Folder of the base model.
        method: The method of training.
        initial: Fingerprints of the trainable weights before training.

    Raises:
        StageError: Training left some of them as they were; nothing is written.
    """
    weights = _weights(trainer, method)
    if trainer.args.process_index == 0:
        after: dict[str, tuple[float, float]] = {}
        temporary = work.final.with_name(".final.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        method.save(trainer.model, _recorded(weights, initial, after), base, temporary)
        try:
            require_moved(initial, after)
        except StageError:
            shutil.rmtree(temporary)
            raise
        shutil.rmtree(work.final, ignore_errors=True)
        temporary.rename(work.final)
    else:
        for _ in weights:  # the first process needs the others to gather them
            pass
    trainer.barrier()


def _recorded(weights: Weights, wanted: Container[str], found: dict[str, tuple[float, float]]) -> Weights:
    """Yield weights, and add the fingerprints of those that are wanted to `found`."""
    for name, weight in weights:
        if name in wanted:
            found.update(fingerprints([(name, weight)]))
        yield name, weight


def _weights(trainer: FineTuner, method: Method) -> Weights:
    """Yield the weights that the method saves, each gathered from all processes."""
    model, engine = trainer.model, trainer.is_deepspeed_enabled
    state = model.state_dict(keep_vars=True)
    if not method.info.trains_adapter:
        yield from whole(state.items())
        return
    for name, weight in state.items():
        if weight.requires_grad:
            yield from (whole_float32 if engine else whole)([(name, weight)])
        elif ADAPTER in name.split("."):  # what an adapter has besides
            yield from whole([(name, weight)])
