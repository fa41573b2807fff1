"""What a job needs: as it is planned before it runs, and as it was measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tunesmith_api.objects.metadata import StatusModel


class PlannedModel(StatusModel):
    """The model that the plan is for."""

    parameters: Annotated[int | None, Field(description="Its parameters.")] = None
    weights: Annotated[str | None, Field(description="Size of its weights as they are stored.")] = None


class StageNeeds(StatusModel):
    """What a stage needs."""

    memory: Annotated[
        str | None, Field(description="Peak memory of all processes of one pod, with the plan's reserve.")
    ] = None
    disk: Annotated[str | None, Field(description="Disk that it fills.")] = None
    seconds: Annotated[float | None, Field(description="Seconds that it takes.")] = None


class TrainNeeds(StageNeeds):
    """What training needs."""

    gpu_memory: Annotated[str | None, Field(description="Peak memory of one GPU, with the plan's reserve.")] = None


class PlannedStages(StatusModel):
    """What each stage needs."""

    prepare: Annotated[StageNeeds | None, Field(description="Needs of prepare.")] = None
    train: Annotated[TrainNeeds | None, Field(description="Needs of train, for each machine.")] = None
    publish: Annotated[StageNeeds | None, Field(description="Needs of publish.")] = None


class PlanStatus(StatusModel):
    """What a job needs and what was chosen for it, computed from the model's configuration before it is trained."""

    model: Annotated[PlannedModel | None, Field(description="The model.")] = None
    machine: Annotated[
        str | None, Field(description="Machine that it is planned for; absent if nothing is known of it.")
    ] = None
    processes: Annotated[int | None, Field(description="Processes that train together.")] = None
    strategy: Annotated[str | None, Field(description="How training is spread over processes.")] = None
    offload: Annotated[str | None, Field(description="What DeepSpeed keeps outside of the GPU's memory.")] = None
    packing: Annotated[bool | None, Field(description="Whether rows are packed together.")] = None
    micro_batch_size: Annotated[int | None, Field(description="Rows of one forward pass in one process.")] = None
    gradient_accumulation_steps: Annotated[
        int | None, Field(description="Forward passes of one process in one optimizer step.")
    ] = None
    gradient_checkpointing: Annotated[
        bool | None, Field(description="Whether activations are computed again in the backward pass.")
    ] = None
    stages: Annotated[PlannedStages | None, Field(description="What each stage needs.")] = None
    download: Annotated[str | None, Field(description="Bytes that are downloaded.")] = None
    hours: Annotated[float | None, Field(description="Hours that the machine of training is held.")] = None
    cost: Annotated[
        float | None, Field(description="Price of these hours, in the currency of the administrator's table.")
    ] = None
    reasons: Annotated[dict[str, str] | None, Field(description="Why each value, by field.")] = None


class StageMeasure(StatusModel):
    """What a stage took."""

    memory: Annotated[str | None, Field(description="Peak memory of all its processes on one machine.")] = None
    seconds: Annotated[float | None, Field(description="Seconds that it took.")] = None


class TrainMeasure(StageMeasure):
    """What training took."""

    gpu_memory: Annotated[str | None, Field(description="Peak memory of one GPU.")] = None
    seconds_per_step: Annotated[float | None, Field(description="Seconds of one optimizer step.")] = None


class Measured(StatusModel):
    """What the stages took."""

    prepare: Annotated[StageMeasure | None, Field(description="Measured in prepare.")] = None
    train: Annotated[TrainMeasure | None, Field(description="Measured in train.")] = None
    publish: Annotated[StageMeasure | None, Field(description="Measured in publish.")] = None
