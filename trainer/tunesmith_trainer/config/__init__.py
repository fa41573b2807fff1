"""What a training job is: the part of the API that the trainer itself reads. Imports pydantic only."""

from tunesmith_trainer.config.base import Rule, SpecModel
from tunesmith_trainer.config.data import ConfigMapKeyRef, DatasetFormat, DatasetSource, DatasetSpec, ValidationSpec
from tunesmith_trainer.config.job import JobConfig, TrainingJobSpec
from tunesmith_trainer.config.model import ModelSpec, ScratchSpec
from tunesmith_trainer.config.outcome import (
    EvaluationSpec,
    ExportSpec,
    GateSpec,
    OutputSpec,
    ParitySpec,
    Precision,
)
from tunesmith_trainer.config.reasons import EXIT_CODES, Reason, TrainerError
from tunesmith_trainer.config.training import AdapterSpec, CheckpointSpec, DistributedSpec, TrainingSpec
from tunesmith_trainer.config.work import Stage, WorkFolder

__all__ = [
    "EXIT_CODES",
    "AdapterSpec",
    "CheckpointSpec",
    "ConfigMapKeyRef",
    "DatasetFormat",
    "DatasetSource",
    "DatasetSpec",
    "DistributedSpec",
    "EvaluationSpec",
    "ExportSpec",
    "GateSpec",
    "JobConfig",
    "ModelSpec",
    "OutputSpec",
    "ParitySpec",
    "Precision",
    "Reason",
    "Rule",
    "ScratchSpec",
    "SpecModel",
    "Stage",
    "TrainerError",
    "TrainingJobSpec",
    "TrainingSpec",
    "ValidationSpec",
    "WorkFolder",
]
