"""Writes the trained weights: those for the publish stage, and the best ones while training goes on."""

from __future__ import annotations

import shutil
from collections.abc import Container, Iterator
from pathlib import Path

import torch

from tunesmith_api.failures import StageError
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.methods.base import Method
from tunesmith_trainer.storage.files import link_tree
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
        recorded = _recorded(weights, initial, after)
        if (step := trainer.published_step) == trainer.state.global_step:
            method.save(trainer.model, recorded, base, temporary)
        else:
            _take_part(recorded)
            link_tree(trainer.best.weights(step), temporary)
        try:
            require_moved(initial, after, method.late_names(initial))
        except StageError:
            shutil.rmtree(temporary)
            raise
        shutil.rmtree(work.final, ignore_errors=True)
        temporary.rename(work.final)
        trainer.best.remove()
    else:
        _take_part(weights)
    trainer.barrier()


def save_weights(trainer: FineTuner, base: Path, method: Method, folder: Path) -> None:
    """Write the weights as they are now, in the middle of training. All processes of the run take part.

    Args:
        trainer: The trainer.
        base: Folder of the base model.
        method: The method of training.
        folder: The folder to make.
    """
    weights = _weights(trainer, method)
    if trainer.args.process_index == 0:
        use_cache = trainer.model.config.use_cache
        method.save(trainer.model, weights, base, folder)
        trainer.model.config.use_cache = use_cache  # what is saved may use it, and training may not
    else:
        _take_part(weights)
    trainer.barrier()


def _take_part(weights: Weights) -> None:
    """Ask for all weights, and do nothing with them: to gather them needs all processes."""
    for _ in weights:
        pass


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
