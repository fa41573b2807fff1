"""The InferenceWorkspace: what to serve, and what is being served."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith_operator.api.metadata import ApiObject, StatusModel
from tunesmith_operator.api.status_common import CommonStatus
from tunesmith_serving.config import RuntimeSpec
from tunesmith_trainer.config import Rule, SpecModel


class ServedModelSpec(SpecModel):
    """The model to serve."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.fineTuneJob) != has(self.uri)",
            "exactly one of fineTuneJob and uri must be set; write fineTuneJob: NAME to serve a job's result, "
            "or uri: s3://BUCKET/ARTIFACT to serve an artifact",
            lambda m: (m.fine_tune_job is None) != (m.uri is None),
        ),
    )

    fine_tune_job: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=63,
            pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
            description="Name of a FineTuneJob in the same namespace; served once it has passed its gates.",
            examples=["my-job"],
        ),
    ] = None
    uri: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=1024,
            pattern=r"^((s3|abfs|abfss|az|gs|file)://.+|\.{0,2}/.+)$",
            description="Folder of an artifact: a path, or an s3://, abfs://, gs:// or file:// URI.",
            examples=["./artifacts/my-model"],
        ),
    ] = None


class InferenceWorkspaceSpec(SpecModel):
    """What to serve."""

    model: Annotated[ServedModelSpec, Field(description="The model to serve.", examples=[{"fineTuneJob": "my-job"}])]
    runtime: Annotated[RuntimeSpec, Field(description="How the model is run.")] = RuntimeSpec()
    replicas: Annotated[
        int, Field(ge=0, le=100, description="Servers to run; 0 stops serving. One machine without a cluster runs one.")
    ] = 1


class Revision(StatusModel):
    """A version of the model that was served."""

    revision: Annotated[str, Field(description="Name of the revision.")]
    artifact: Annotated[str, Field(description="Folder of its artifact.")]
    time: Annotated[
        str, Field(json_schema_extra={"format": "date-time"}, description="When it was first being served.")
    ]


class InferenceWorkspaceStatus(CommonStatus):
    """What is being served."""

    revision: Annotated[str | None, Field(description="Revision that is being served.")] = None
    previous_revision: Annotated[str | None, Field(description="Revision that was served before.")] = None
    endpoint: Annotated[str | None, Field(description="Base URL for an OpenAI client.")] = None
    replicas: Annotated[int | None, Field(description="Servers that there are.")] = None
    ready_replicas: Annotated[int | None, Field(description="Servers that are ready.")] = None
    history: Annotated[list[Revision] | None, Field(description="Revisions served so far, newest last.")] = None


class InferenceWorkspace(ApiObject):
    """Serves a tuned model behind the OpenAI API."""

    kind: Annotated[Literal["InferenceWorkspace"], Field(description="Kind of the object.")] = "InferenceWorkspace"
    spec: Annotated[
        InferenceWorkspaceSpec, Field(description="What to serve.", examples=[{"model": {"fineTuneJob": "my-job"}}])
    ]
    status: Annotated[InferenceWorkspaceStatus | None, Field(description="What is being served.")] = None
