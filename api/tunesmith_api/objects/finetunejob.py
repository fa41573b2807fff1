"""The FineTuneJob: what to train, and its status."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith_api.objects.artifact_ref import ArtifactRef
from tunesmith_api.objects.cluster_only import ClusterOnly
from tunesmith_api.objects.inputs import JobDatasetSpec, JobModelSpec, JobOutputSpec
from tunesmith_api.objects.metadata import ApiObject, StatusModel
from tunesmith_api.objects.metrics import Metrics
from tunesmith_api.objects.plan import Measured, PlanStatus
from tunesmith_api.objects.pod_template import PodTemplateSpec
from tunesmith_api.objects.resources import ResourcesSpec
from tunesmith_api.objects.scheduling import SchedulingSpec
from tunesmith_api.objects.stages import StagesSpec
from tunesmith_api.objects.status_common import CommonStatus
from tunesmith_api.objects.storage import OBJECT_STORE, StorageSpec
from tunesmith_api.spec import PUBLISH_FIELDS, Rule, TrainingJobSpec

CHANGEABLE = {"suspend", "ttlSecondsAfterFinished"}
"""The fields of a spec that can change at any time."""
CHANGEABLE_UNTIL_SUCCEEDED = {*PUBLISH_FIELDS, "stages"}
"""The fields of a spec that only publish reads, and what its pod gets. They can change until the job has succeeded."""

# Processes that train together: distributed.numProcPerNode or the GPUs of a node, on each node.
_WORLD = (
    "(self.resources.nodes * (has(self.distributed.numProcPerNode) ? self.distributed.numProcPerNode : "
    "self.resources.gpusPerNode > 0 ? self.resources.gpusPerNode : 1))"
)


class JobPodTemplateSpec(PodTemplateSpec):
    """Additions to the pods of all stages, merged last: for identities, meshes, proxies and policies of a cluster."""

    image: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=512,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$",
            description="Image of the stages instead of the operator's own.",
            examples=["registry.example.com/tunesmith-trainer:0.1.0"],
        ),
    ] = None


class FineTuneJobSpec(TrainingJobSpec):
    """What to train, and where.

    Once created only suspend and ttlSecondsAfterFinished can change, and until the job has succeeded also evaluation,
    export, output and stages.
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        *TrainingJobSpec.rules,
        Rule(
            "self.resources.nodes == 1 || has(self.storage.claimName) || has(self.storage.uri) || "
            "(has(self.storage.accessMode) && self.storage.accessMode == 'ReadWriteMany')",
            "resources.nodes above 1 needs what all nodes can write to; write storage: {accessMode: ReadWriteMany}, "
            "storage: {claimName: NAME} or storage: {uri: s3://BUCKET/PREFIX}",
            lambda s: (
                s.resources.nodes == 1
                or s.storage.access_mode == "ReadWriteMany"
                or (s.storage.claim_name or s.storage.uri) is not None
            ),
        ),
        Rule(
            "!has(self.distributed.numProcPerNode) || self.resources.gpusPerNode == 0 || "
            "self.distributed.numProcPerNode <= self.resources.gpusPerNode",
            "distributed.numProcPerNode must not be above resources.gpusPerNode; remove numProcPerNode for one process "
            "a GPU, or raise gpusPerNode",
            lambda s: (
                s.resources.gpus_per_node == 0 or (s.distributed.num_proc_per_node or 0) <= s.resources.gpus_per_node
            ),
        ),
        Rule(
            f"self.training.globalBatchSize % {_WORLD} == 0",
            "training.globalBatchSize must be a multiple of the number of processes (resources.nodes times "
            "resources.gpusPerNode, or distributed.numProcPerNode); write for example globalBatchSize: 16 with 8 GPUs",
            lambda s: s.training.global_batch_size % s.processes == 0,
        ),
        Rule(
            f"!has(self.training.microBatchSize) || self.training.globalBatchSize % "
            f"(self.training.microBatchSize * {_WORLD}) == 0",
            "training.globalBatchSize must be a multiple of training.microBatchSize times the number of processes; "
            "write for example microBatchSize: 2, globalBatchSize: 16 with 8 GPUs",
            lambda s: (
                s.training.micro_batch_size is None
                or s.training.global_batch_size % (s.training.micro_batch_size * s.processes) == 0
            ),
        ),
        Rule(
            "!has(self.output) || self.output.retain || !(has(self.storage.claimName) || has(self.storage.uri))",
            "output.retain false removes the volume that the job makes for itself, and storage.claimName and "
            "storage.uri are yours; remove retain, or remove claimName or uri",
            lambda s: s.output is None or s.output.retain or (s.storage.claim_name or s.storage.uri) is None,
        ),
        Rule(
            "!has(self.storage.uri) || !has(self.export) || !has(self.export.baseUri) || "
            f"self.export.baseUri.matches('{OBJECT_STORE}')",
            "export.baseUri is a path, and with storage.uri each pod's disk goes with it; write export.baseUri: "
            "s3://BUCKET/BASE (abfs://, gs://), or leave baseUri out",
            lambda s: (
                s.storage.uri is None
                or s.export.base_uri is None
                or re.match(OBJECT_STORE, s.export.base_uri) is not None
            ),
        ),
        Rule(
            "!has(self.storage.uri) || !has(self.output) || !has(self.output.uri) || "
            f"self.output.uri.matches('{OBJECT_STORE}')",
            "output.uri is a path, and with storage.uri each pod's disk goes with it; write output.uri: "
            "s3://BUCKET/ARTIFACT, or remove it for a folder beside the job's work",
            lambda s: (
                s.storage.uri is None
                or s.output is None
                or s.output.uri is None
                or re.match(OBJECT_STORE, s.output.uri) is not None
            ),
        ),
    )

    model: Annotated[
        JobModelSpec,
        Field(description="The model to fine-tune.", examples=[{"uri": "hf://HuggingFaceTB/SmolLM2-135M-Instruct"}]),
    ]
    dataset: Annotated[
        JobDatasetSpec,
        Field(description="The rows to learn from.", examples=[{"sources": [{"uri": "./data.jsonl"}]}]),
    ]
    output: Annotated[
        JobOutputSpec | None,
        Field(description="Where the artifact goes; by default a folder beside the job's work."),
    ] = None
    resources: Annotated[
        ResourcesSpec,
        Field(description="What training gets, and where it runs. Concerns clusters only."),
        ClusterOnly(),
    ] = ResourcesSpec()
    stages: Annotated[
        StagesSpec,
        Field(
            description="What prepare and publish get; what is left out comes from the plan. Can be changed until the "
            "job has succeeded: publish then starts again. Concerns clusters only.",
            examples=[{"publish": {"memory": "16Gi"}}],
        ),
        ClusterOnly(),
    ] = StagesSpec()
    scheduling: Annotated[
        SchedulingSpec,
        Field(description="When the job runs, how long, and how often it is tried."),
        ClusterOnly(),
    ] = SchedulingSpec()
    storage: Annotated[
        StorageSpec,
        Field(description="The volume that the stages share, or a prefix of an object store."),
        ClusterOnly(),
    ] = StorageSpec()
    suspend: Annotated[
        bool,
        Field(
            description="Stop the job and give its machines back; false lets it go on from its last checkpoint. "
            "Can be changed at any time."
        ),
    ] = False
    ttl_seconds_after_finished: Annotated[
        int | None,
        Field(
            ge=0,
            le=315_360_000,
            description="Seconds after its end at which the FineTuneJob is deleted; never by default. "
            "Can be changed at any time. Concerns clusters only.",
            examples=[604_800],
        ),
        ClusterOnly(),
    ] = None
    pod_template: Annotated[
        JobPodTemplateSpec | None,
        Field(
            description="Additions to the pods of all stages. Concerns clusters only.",
            examples=[{"serviceAccountName": "my-identity"}],
        ),
        ClusterOnly(),
    ] = None

    @property
    def processes(self) -> int:
        """The number of processes that train together in a cluster."""
        per_node = self.distributed.num_proc_per_node or max(1, self.resources.gpus_per_node)
        return self.resources.nodes * per_node

    def training_spec(self) -> TrainingJobSpec:
        """Return the part that the trainer reads, which does not depend on where the job runs.

        The specs of a job extend those of the trainer by Secrets and places. Validating again with the trainer's own
        models is what removes these at every depth: a list of fields to exclude would have to name each of them.
        """
        spec = TrainingJobSpec.model_validate(self.model_dump(by_alias=True, exclude_unset=True), extra="ignore")
        has_output = spec.output is not None and spec.output.uri is not None
        return spec if has_output else spec.model_copy(update={"output": None})


class Progress(StatusModel):
    """How far a job is."""

    stage: Annotated[str | None, Field(description="Stage that runs: prepare, train or publish.")] = None
    step: Annotated[int | None, Field(description="Optimizer steps done.")] = None
    total_steps: Annotated[int | None, Field(description="Optimizer steps in all.")] = None
    epoch: Annotated[float | None, Field(description="Passes over the data done.")] = None
    loss: Annotated[float | None, Field(description="Newest training loss.")] = None
    eval_loss: Annotated[float | None, Field(description="Newest loss on validation rows.")] = None
    best_step: Annotated[int | None, Field(description="Step with the lowest loss on validation rows.")] = None
    best_eval_loss: Annotated[float | None, Field(description="Loss on validation rows at bestStep.")] = None
    stopped_early: Annotated[
        str | None, Field(description="Why training stopped before its last step (training.earlyStopping).")
    ] = None
    adjusted: Annotated[
        str | None, Field(description="What training has changed of its own values, after it ran out of memory.")
    ] = None
    tokens_per_second: Annotated[float | None, Field(description="Tokens trained on a second.")] = None
    eta_seconds: Annotated[float | None, Field(description="Estimated seconds until training is done.")] = None
    detail: Annotated[str | None, Field(description="What is being done right now.")] = None


class Attempts(StatusModel):
    """How often each stage was started. Pods that its Job replaces by itself do not count."""

    prepare: Annotated[int | None, Field(description="Starts of prepare.")] = None
    train: Annotated[int | None, Field(description="Starts of train.")] = None
    publish: Annotated[int | None, Field(description="Starts of publish.")] = None


class FineTuneJobStatus(CommonStatus):
    """How far the job is."""

    progress: Annotated[Progress | None, Field(description="Newest progress of the stage that runs.")] = None
    attempts: Annotated[Attempts | None, Field(description="How often each stage was started.")] = None
    plan: Annotated[PlanStatus | None, Field(description="What the job needs, as computed before it runs.")] = None
    measured: Annotated[Measured | None, Field(description="What the stages took, beside the plan.")] = None
    metrics: Annotated[Metrics | None, Field(description="Quality before and after training.")] = None
    artifact: Annotated[ArtifactRef | None, Field(description="The result.")] = None
    start_time: Annotated[
        str | None, Field(json_schema_extra={"format": "date-time"}, description="When the job was first seen.")
    ] = None
    completion_time: Annotated[
        str | None, Field(json_schema_extra={"format": "date-time"}, description="When the job ended.")
    ] = None
    paused_since: Annotated[
        str | None,
        Field(
            json_schema_extra={"format": "date-time"},
            description="Since when the job is suspended or waits in a queue; absent while it is neither.",
        ),
    ] = None
    paused_seconds: Annotated[
        int | None, Field(description="Seconds that it was suspended or waited in a queue before.")
    ] = None


class FineTuneJob(ApiObject):
    """Trains a model on a data set, evaluates it and exports it."""

    kind: Annotated[Literal["FineTuneJob"], Field(description="Kind of the object.")] = "FineTuneJob"
    spec: Annotated[
        FineTuneJobSpec,
        Field(
            description="What to train. Once the job is created, only suspend and ttlSecondsAfterFinished can change; "
            "until it has succeeded also evaluation, export, output and stages. A job that failed in publish then goes "
            "on."
        ),
    ]
    status: Annotated[FineTuneJobStatus | None, Field(description="How far the job is.")] = None
