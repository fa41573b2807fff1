"""What an InferenceWorkspace serves: the artifact of a job, that of the newest of several, or one by its URI."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from tunesmith_api.objects.artifact_uri import ArtifactUri, JobName, uri_rules
from tunesmith_api.objects.cluster_only import ClusterOnly
from tunesmith_api.objects.pod_template import Labels, LocalObjectReference
from tunesmith_api.spec import Rule, SpecModel


class JobSelector(SpecModel):
    """Labels of FineTuneJobs in the same namespace."""

    match_labels: Annotated[
        Labels, Field(min_length=1, description="Labels that a job must have, all of them.", examples=[{"app": "faq"}])
    ]


class ServedModelSpec(SpecModel):
    """The model to serve."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.fineTuneJob), has(self.fineTuneJobSelector), has(self.uri)].filter(x, x).size() == 1",
            "exactly one of fineTuneJob, fineTuneJobSelector and uri must be set; write fineTuneJob: NAME to serve a "
            "job's result, fineTuneJobSelector: {matchLabels: {app: NAME}} to follow the newest, "
            "or uri: s3://BUCKET/ARTIFACT to serve an artifact",
            lambda m: sum(x is not None for x in (m.fine_tune_job, m.fine_tune_job_selector, m.uri)) == 1,
        ),
        *uri_rules("s3://BUCKET/ARTIFACT"),
    )

    fine_tune_job: Annotated[
        JobName | None,
        Field(
            description="Name of a FineTuneJob in the same namespace; served once it has passed its gates.",
            examples=["my-job"],
        ),
    ] = None
    fine_tune_job_selector: Annotated[
        JobSelector | None,
        Field(
            description="Follow the FineTuneJobs with these labels: the one that completed last, having passed its "
            "gates, is served.",
            examples=[{"matchLabels": {"app": "faq"}}],
        ),
    ] = None
    uri: Annotated[
        ArtifactUri | None,
        Field(
            description="Folder of an artifact: pvc://CLAIM/PATH on a volume, an s3://, abfs:// or gs:// URI; "
            "on one machine without a cluster also a path or a file:// URI. An artifact never changes: a new one has a "
            "new URI, and the revision is a hash of it.",
            examples=["pvc://my-claim/artifacts/my-model"],
        ),
    ] = None
    secret_ref: Annotated[
        LocalObjectReference | None,
        Field(
            description="Secret with the variables that reading an s3://, abfs:// or gs:// artifact takes "
            "(AWS_ACCESS_KEY_ID, AZURE_STORAGE_CONNECTION_STRING, ...); by default that of the job's output.",
            examples=[{"name": "my-storage"}],
        ),
        ClusterOnly(),
    ] = None
