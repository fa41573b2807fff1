"""Writes the trained weights for the publish stage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.methods.base import Method
from tunesmith_trainer.train.compat.deepspeed import gather_weights
from tunesmith_trainer.train.moved import Fingerprints, fingerprints, require_moved
from tunesmith_trainer.train.trainer import FineTuner


def save_final(trainer: FineTuner, work: WorkFolder, base: Path, method: Method, initial: Fingerprints) -> None:
    """Write `final/` as the method saves it. All processes of the run take part.

    Args:
        trainer: The trainer, at the end of training.
        work: The work folder.
        base: Folder of the base model.
        method: The method of training.
        initial: Fingerprints of the trainable weights before training.

    Raises:
        StageError: Training left some of them as they were; nothing is written.
    """
    weights = _weights(trainer, adapter=method.info.trains_adapter)
    if trainer.args.process_index == 0:
        trained = trainer.model.named_parameters() if weights is None else weights.items()
        final = fingerprints((name, tensor) for name, tensor in trained if name in initial)
        require_moved(initial, final, method.late_names(initial))
        temporary = work.final.with_name(".final.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        method.save(trainer.model, weights, base, temporary)
        shutil.rmtree(work.final, ignore_errors=True)
        temporary.rename(work.final)
    trainer.barrier()


def _weights(trainer: FineTuner, *, adapter: bool) -> dict[str, Any] | None:
    """Return the weights by name, gathered from all processes; None if the model itself holds them."""
    if not trainer.is_deepspeed_enabled:
        return None
    if trainer.resolved.zero_stage == 3:
        return gather_weights(trainer.deepspeed, exclude_frozen=adapter)
    learned = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    # Cloned, as DeepSpeed keeps parameters as views of one buffer.
    state = trainer.model.state_dict()
    return {name: value.detach().clone() for name, value in state.items() if not adapter or name in learned}
