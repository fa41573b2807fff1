"""The part of the API that the trainer reads: what to train. Imports pydantic only."""

from tunesmith_api.spec.adapter import AdapterSettings, AdapterSpec, adapter_settings
from tunesmith_api.spec.base import Rule, SpecModel
from tunesmith_api.spec.classification import ClassificationSpec
from tunesmith_api.spec.data import ConfigMapKeyRef, DatasetFormat, DatasetSource, DatasetSpec, ValidationSpec
from tunesmith_api.spec.job import JobConfig, TrainingJobSpec
from tunesmith_api.spec.model import ModelSpec, ScratchSpec
from tunesmith_api.spec.objective import DpoSpec
from tunesmith_api.spec.publish import (
    PUBLISH_FIELDS,
    EvaluationSpec,
    ExportSpec,
    GateSpec,
    KvCache,
    OutputSpec,
    ParitySpec,
    Precision,
)
from tunesmith_api.spec.training import CheckpointSpec, DistributedSpec, EarlyStoppingSpec, TrainingSpec
from tunesmith_api.spec.translation import TranslationSpec

__all__ = [
    "PUBLISH_FIELDS",
    "AdapterSettings",
    "AdapterSpec",
    "CheckpointSpec",
    "ClassificationSpec",
    "ConfigMapKeyRef",
    "DatasetFormat",
    "DatasetSource",
    "DatasetSpec",
    "DistributedSpec",
    "DpoSpec",
    "EarlyStoppingSpec",
    "EvaluationSpec",
    "ExportSpec",
    "GateSpec",
    "KvCache",
    "JobConfig",
    "ModelSpec",
    "OutputSpec",
    "ParitySpec",
    "Precision",
    "Rule",
    "ScratchSpec",
    "SpecModel",
    "TrainingJobSpec",
    "TrainingSpec",
    "TranslationSpec",
    "ValidationSpec",
    "adapter_settings",
]
