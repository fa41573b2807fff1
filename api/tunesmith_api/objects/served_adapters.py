"""The adapters that a workspace serves beside its base model: what is asked for, and what the servers say."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith_api.objects.artifact_uri import ArtifactUri, JobName, uri_rules
from tunesmith_api.objects.cluster_only import ClusterOnly
from tunesmith_api.objects.metadata import StatusModel
from tunesmith_api.objects.pod_template import LocalObjectReference
from tunesmith_api.spec import Rule, SpecModel

MAX_ADAPTERS = 256
"""Most adapters of a workspace: the list must fit in a ConfigMap, and its status in an object."""
ADAPTER_NAME = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
ADAPTER_NAME_LENGTH = 63
ADAPTER_NAME_ANNOTATION = "tunesmith.dev/adapter-name"
"""Annotation of a FineTuneJob: the name under which a selector serves its adapter, instead of the job's own name."""


class ServedAdapterSpec(SpecModel):
    """An adapter to serve on the workspace's base model."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.fineTuneJob) != has(self.uri)",
            "exactly one of fineTuneJob and uri must be set; write fineTuneJob: NAME to serve the adapter of a job "
            "with export.adapterOnly: true, or uri: s3://BUCKET/ADAPTER to serve one that is published",
            lambda a: (a.fine_tune_job is None) != (a.uri is None),
        ),
        *uri_rules("s3://BUCKET/ADAPTER"),
    )

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=ADAPTER_NAME_LENGTH,
            pattern=ADAPTER_NAME,
            description="Name of the adapter: what a request gives as its model. It differs from the names of the "
            "workspace and of the other adapters.",
            examples=["billing"],
        ),
    ]
    fine_tune_job: Annotated[
        JobName | None,
        Field(
            description="Name of a FineTuneJob in the same namespace with export.adapterOnly: true; its adapter is "
            "served once it has passed its gates, until the job is deleted.",
            examples=["billing-3"],
        ),
    ] = None
    uri: Annotated[
        ArtifactUri | None,
        Field(
            description="Folder of an adapter's artifact: an s3://, abfs:// or gs:// URI, or pvc://CLAIM/PATH on the "
            "claim that the base model is on; on one machine without a cluster also a path or a file:// URI. It never "
            "changes: a new adapter has a new URI.",
            examples=["s3://my-bucket/adapters/billing-3"],
        ),
    ] = None
    secret_ref: Annotated[
        LocalObjectReference | None,
        Field(
            description="Secret with the variables that reading this adapter from an object store takes; by default "
            "that of the base model. Servers mount it, so another Secret replaces them.",
            examples=[{"name": "my-storage"}],
        ),
        ClusterOnly(),
    ] = None


class AdapterStatus(StatusModel):
    """An adapter, as the servers say."""

    name: Annotated[str, Field(description="Name of the adapter.")]
    digest: Annotated[str | None, Field(description="Digest of its artifact, if it is known.")] = None
    state: Annotated[
        Literal["Loaded", "Pending", "Failed"],
        Field(
            description="Loaded: every server that is ready answers with it. Pending: it is waited for. Failed: it is "
            "not served, and message says why."
        ),
    ]
    message: Annotated[str | None, Field(description="Why it is not loaded, and what to do.")] = None
