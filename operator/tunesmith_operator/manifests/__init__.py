"""Manifests from files: what `tunesmith run -f` and `tunesmith validate -f` read."""

from tunesmith_operator.manifests.findings import Finding, Note, Source
from tunesmith_operator.manifests.load import load_manifests
from tunesmith_operator.manifests.objects import LoadedFineTuneJob, LoadedInferenceWorkspace
from tunesmith_operator.manifests.result import Manifests

__all__ = [
    "Finding",
    "LoadedFineTuneJob",
    "LoadedInferenceWorkspace",
    "Manifests",
    "Note",
    "Source",
    "load_manifests",
]
