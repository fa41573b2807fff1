"""The FineTuneJob: what to train, and how far it is."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith_operator.api.metadata import ApiObject, StatusModel
from tunesmith_operator.api.status_common import CommonStatus
from tunesmith_trainer.config import Rule, TrainingJobSpec


class FineTuneJobSpec(TrainingJobSpec):
    """What to train. It does not change once the object is created."""

    # A transition rule: only an API server knows the old object, so there is nothing to check here.
    rules: ClassVar[tuple[Rule, ...]] = (
        *TrainingJobSpec.rules,
        Rule(
            "self == oldSelf",
            "a FineTuneJob does not change once it is created; write a new one under another name",
            lambda _: True,
        ),
    )


class Progress(StatusModel):
    """How far a job is."""

    stage: Annotated[str | None, Field(description="Stage that runs: prepare, train or publish.")] = None
    step: Annotated[int | None, Field(description="Optimizer steps done.")] = None
    total_steps: Annotated[int | None, Field(description="Optimizer steps in all.")] = None
    epoch: Annotated[float | None, Field(description="Passes over the data done.")] = None
    loss: Annotated[float | None, Field(description="Newest training loss.")] = None
    eval_loss: Annotated[float | None, Field(description="Newest loss on validation rows.")] = None
    tokens_per_second: Annotated[float | None, Field(description="Tokens trained on a second.")] = None
    eta_seconds: Annotated[float | None, Field(description="Estimated seconds until training is done.")] = None
    detail: Annotated[str | None, Field(description="What is being done right now.")] = None


class Attempts(StatusModel):
    """How often each stage was started."""

    prepare: Annotated[int | None, Field(description="Starts of prepare.")] = None
    train: Annotated[int | None, Field(description="Starts of train.")] = None
    publish: Annotated[int | None, Field(description="Starts of publish.")] = None


class Evaluation(StatusModel):
    """Metrics on the validation rows."""

    eval_loss: Annotated[float | None, Field(description="Mean loss of a learned token.")] = None
    perplexity: Annotated[float | None, Field(description="Exponential of the loss.")] = None
    exact_match: Annotated[float | None, Field(description="Share of answers that are equal to the expected.")] = None


class Metrics(StatusModel):
    """Metrics before and after training."""

    before: Annotated[Evaluation | None, Field(description="Metrics of the base model.")] = None
    after: Annotated[Evaluation | None, Field(description="Metrics of the tuned model.")] = None


class ArtifactRef(StatusModel):
    """The result of a job."""

    uri: Annotated[str | None, Field(description="Folder of the artifact.")] = None
    digest: Annotated[str | None, Field(description="Digest over the digests of its files.")] = None


class FineTuneJobStatus(CommonStatus):
    """How far the job is."""

    progress: Annotated[Progress | None, Field(description="Newest progress of the stage that runs.")] = None
    attempts: Annotated[Attempts | None, Field(description="How often each stage was started.")] = None
    metrics: Annotated[Metrics | None, Field(description="Quality before and after training.")] = None
    artifact: Annotated[ArtifactRef | None, Field(description="The result.")] = None
    start_time: Annotated[
        str | None, Field(json_schema_extra={"format": "date-time"}, description="When the job was first seen.")
    ] = None
    completion_time: Annotated[
        str | None, Field(json_schema_extra={"format": "date-time"}, description="When the job ended.")
    ] = None


class FineTuneJob(ApiObject):
    """Trains a model on a data set, evaluates it and exports it."""

    kind: Annotated[Literal["FineTuneJob"], Field(description="Kind of the object.")] = "FineTuneJob"
    spec: Annotated[FineTuneJobSpec, Field(description="What to train.")]
    status: Annotated[FineTuneJobStatus | None, Field(description="How far the job is.")] = None
