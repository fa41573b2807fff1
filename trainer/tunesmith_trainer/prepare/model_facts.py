"""Facts about the base model that decide whether the job can succeed, checked before anything is trained."""

from __future__ import annotations

import json
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import JobConfig
from tunesmith_trainer.models.base import BaseModel
from tunesmith_trainer.models.context import served_positions
from tunesmith_trainer.models.remote import CheckConfiguration
from tunesmith_trainer.models.weights_check import Architecture, check_weights, read_architecture
from tunesmith_trainer.prepare.planning import refuse_hopeless
from tunesmith_trainer.tasks.base import Task


def configuration_check(config: JobConfig, task: Task) -> CheckConfiguration:
    """Return what refuses the configuration of a model that the job could not export, or that cannot fit."""

    def check(settings: dict[str, Any], name: str) -> None:
        if config.spec.precisions:
            task.check_configuration(settings, name)
        refuse_hopeless(config, settings)

    return check


def check_facts(config: JobConfig, model: BaseModel, task: Task) -> Architecture:
    """Check the configuration and weights of a base model that is complete on this machine.

    Args:
        config: The job.
        model: Its base model.
        task: Its task.

    Returns:
        The model as config.json describes it.

    Raises:
        StageError: INVALID_MODEL: the weights are not those of the model, or it cannot be exported.
    """
    settings = json.loads((model.path / "config.json").read_bytes())
    architecture = read_architecture(model.path, model.uri, task.stored_class(settings))
    configuration_check(config, task)(architecture.config.to_dict(), model.uri)
    if config.spec.model.scratch is None:
        check_weights(model.path, model.uri, architecture)
    return architecture


def require_served_length(config: JobConfig, model: BaseModel, architecture: Architecture, longest: int) -> None:
    """Fail if training would use longer rows than the exported model takes.

    Args:
        config: The job.
        model: Its base model.
        architecture: The model's configuration.
        longest: Tokens of the longest training row.

    Raises:
        StageError: INVALID_SPEC.
    """
    positions = served_positions(architecture.config.to_dict())
    if config.spec.precisions and positions is not None and positions < longest:
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.training.maxLength is {config.spec.training.max_length} and the longest row has {longest} tokens, "
            f"but an export of {model.uri} takes {positions} at most: beyond, longrope computes all keys of a sequence "
            "anew",
            f"Write maxLength: {positions} or less",
        )
