"""What a job has made, as its status names it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tunesmith_api.objects.metadata import StatusModel


class BaseArtifactRef(StatusModel):
    """The base model of an adapter, as it is served."""

    uri: Annotated[str | None, Field(description="Folder of its artifact.")] = None
    digest: Annotated[str | None, Field(description="Digest over the digests of its files.")] = None


class CheckpointRef(StatusModel):
    """A checkpoint before the last that is published."""

    step: Annotated[int | None, Field(description="Training step whose weights it has.")] = None
    uri: Annotated[str | None, Field(description="Folder of its artifact, which an InferenceWorkspace serves.")] = None
    digest: Annotated[str | None, Field(description="Digest over the digests of its files.")] = None


class ArtifactRef(StatusModel):
    """The result of a job."""

    uri: Annotated[str | None, Field(description="Folder of the artifact.")] = None
    digest: Annotated[str | None, Field(description="Digest over the digests of its files.")] = None
    step: Annotated[int | None, Field(description="Training step whose weights it has.")] = None
    checkpoints: Annotated[
        list[CheckpointRef] | None,
        Field(description="With training.checkpoint.publish the checkpoints before it, the oldest first."),
    ] = None
    base: Annotated[
        BaseArtifactRef | None,
        Field(description="With export.adapterOnly the base model that the adapter is served on."),
    ] = None
