"""Reads manifests from files, as `tunesmith run -f` and `tunesmith validate -f` do, or from text."""

from tunesmith_api.manifests.files import Document
from tunesmith_api.manifests.findings import Finding, Ignored, Source
from tunesmith_api.manifests.load import load_documents, load_manifests
from tunesmith_api.manifests.objects import LoadedFineTuneJob, LoadedInferenceWorkspace
from tunesmith_api.manifests.result import Manifests

__all__ = [
    "Document",
    "Finding",
    "Ignored",
    "LoadedFineTuneJob",
    "LoadedInferenceWorkspace",
    "Manifests",
    "Source",
    "load_documents",
    "load_manifests",
]
