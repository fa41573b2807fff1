"""The result of loading manifests."""

from __future__ import annotations

from dataclasses import dataclass, field

from tunesmith_api.manifests.findings import Finding, Ignored
from tunesmith_api.manifests.objects import LoadedFineTuneJob, LoadedInferenceWorkspace


@dataclass
class Manifests:
    """The objects in a set of manifests, and what was found about them.

    Attributes:
        fine_tune_jobs: The valid FineTuneJobs, in the order of the files.
        inference_workspaces: The valid InferenceWorkspaces, in the order of the files.
        config_maps: Contents of the ConfigMaps: `{(namespace, name): {key: content}}`.
        notes: Documents of kinds that are not of this API.
        findings: Faults that must be corrected first. If there are none, everything is valid.
    """

    fine_tune_jobs: list[LoadedFineTuneJob] = field(default_factory=list)
    inference_workspaces: list[LoadedInferenceWorkspace] = field(default_factory=list)
    config_maps: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    notes: list[Ignored] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
