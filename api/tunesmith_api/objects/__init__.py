"""The API: group tunesmith.dev, version v1alpha1. The pydantic models here are its single source."""

from tunesmith_api.objects.finetunejob import FineTuneJob, FineTuneJobSpec, FineTuneJobStatus
from tunesmith_api.objects.inferenceworkspace import (
    InferenceWorkspace,
    InferenceWorkspaceSpec,
    InferenceWorkspaceStatus,
)
from tunesmith_api.objects.metadata import API_VERSION, GROUP, VERSION, ObjectMeta
from tunesmith_api.objects.status_common import CommonStatus, Condition, ResolvedValue

__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "CommonStatus",
    "Condition",
    "FineTuneJob",
    "FineTuneJobSpec",
    "FineTuneJobStatus",
    "InferenceWorkspace",
    "InferenceWorkspaceSpec",
    "InferenceWorkspaceStatus",
    "ObjectMeta",
    "ResolvedValue",
]
