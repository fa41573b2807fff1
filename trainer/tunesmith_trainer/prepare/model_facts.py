"""Facts about the base model that decide whether the job can succeed, checked before anything is trained."""

from __future__ import annotations

import logging

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import JobConfig
from tunesmith_trainer.models.base import BaseModel
from tunesmith_trainer.models.context import served_positions
from tunesmith_trainer.models.weights_check import Architecture, check_weights, read_architecture
from tunesmith_trainer.tasks.base import Task

log = logging.getLogger(__name__)


def check_facts(config: JobConfig, model: BaseModel, task: Task) -> Architecture:
    """Check a base model's configuration and weights.

    Args:
        config: The job.
        model: Its base model.
        task: Its task.

    Returns:
        The model as config.json describes it.

    Raises:
        StageError: INVALID_MODEL: the weights are not those of the model, or it cannot be exported. INVALID_SPEC: the
            training uses longer rows than the exported model takes.
    """
    architecture = read_architecture(model.path, model.uri)
    if config.spec.export.precisions:
        values = architecture.config.to_dict()
        task.check_configuration(values, model.uri)
        positions, max_length = served_positions(values), config.spec.training.max_length
        if positions is not None and positions < max_length:
            raise StageError(
                Reason.INVALID_SPEC,
                f"spec.training.maxLength is {max_length}, but an export of {model.uri} takes {positions} tokens at "
                "most: beyond, longrope computes all keys of a sequence anew",
                f"Write maxLength: {positions} or less",
            )
    if config.spec.model.scratch is None:
        check_weights(model.path, model.uri, architecture)
    return architecture
