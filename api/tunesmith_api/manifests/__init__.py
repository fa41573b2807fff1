"""Manifests from files: what `tunesmith run -f` and `tunesmith validate -f` read."""

from tunesmith_api.manifests.findings import Finding, Note, Source
from tunesmith_api.manifests.load import load_manifests
from tunesmith_api.manifests.objects import LoadedFineTuneJob, LoadedInferenceWorkspace
from tunesmith_api.manifests.result import Manifests

__all__ = [
    "Finding",
    "LoadedFineTuneJob",
    "LoadedInferenceWorkspace",
    "Manifests",
    "Note",
    "Source",
    "load_manifests",
]
