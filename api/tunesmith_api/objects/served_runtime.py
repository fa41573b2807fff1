"""How a workspace runs its model, with the draft model that a server is given as a folder."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from tunesmith_api.objects.artifact_uri import ArtifactUri, JobName, uri_rules
from tunesmith_api.objects.cluster_only import ClusterOnly
from tunesmith_api.objects.pod_template import LocalObjectReference
from tunesmith_api.objects.served_model import ServedModelSpec
from tunesmith_api.spec import Rule, SpecModel
from tunesmith_api.spec.runtime import DRAFT_RULES, RuntimeSpec


class DraftModelSpec(SpecModel):
    """A small model that drafts tokens."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.fineTuneJob) != has(self.uri)",
            "exactly one of fineTuneJob and uri must be set; write fineTuneJob: NAME to draft with a job's result, or "
            "uri: s3://BUCKET/ARTIFACT to draft with an artifact",
            lambda m: (m.fine_tune_job is None) != (m.uri is None),
        ),
        *uri_rules("s3://BUCKET/ARTIFACT"),
    )

    fine_tune_job: Annotated[
        JobName | None,
        Field(
            description="Name of a FineTuneJob in the same namespace that publishes a whole model; the workspace waits "
            "until it has passed its gates.",
            examples=["my-small-job"],
        ),
    ] = None
    uri: Annotated[
        ArtifactUri | None,
        Field(
            description="Folder of an artifact, as in spec.model.uri.",
            examples=["s3://my-bucket/artifacts/my-small-model"],
        ),
    ] = None
    secret_ref: Annotated[
        LocalObjectReference | None,
        Field(
            description="Secret with the variables that reading the artifact from an object store takes; by default "
            "that of the job's output.",
            examples=[{"name": "my-storage"}],
        ),
        ClusterOnly(),
    ] = None

    def as_model(self) -> ServedModelSpec:
        """Return what finds the artifact."""
        return ServedModelSpec(fine_tune_job=self.fine_tune_job, uri=self.uri, secret_ref=self.secret_ref)


class ServedRuntimeSpec(RuntimeSpec):
    """How a model is run: `spec.runtime` of an InferenceWorkspace."""

    rules: ClassVar[tuple[Rule, ...]] = (*RuntimeSpec.rules, *DRAFT_RULES)

    draft_model: Annotated[
        DraftModelSpec | None,
        Field(
            description="A small model of the task textGeneration with the same tokenizer as spec.model. Where prompt "
            "lookup finds nothing, it drafts up to draftTokens tokens of each request, which the model checks in one "
            "step. It takes memory for its weights, keys and values, and is used only while it makes answers faster.",
            examples=[{"fineTuneJob": "my-small-job"}],
        ),
    ] = None
