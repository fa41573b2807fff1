"""The whole job as the trainer reads it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from tunesmith_api.spec.base import Rule, SpecModel
from tunesmith_api.spec.data import DatasetSpec
from tunesmith_api.spec.model import ModelSpec
from tunesmith_api.spec.publish import EvaluationSpec, ExportSpec, OutputSpec
from tunesmith_api.spec.training import AdapterSpec, DistributedSpec, TrainingSpec


class TrainingJobSpec(SpecModel):
    """What to train: the part of a FineTuneJob's spec that does not depend on where it runs."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.method != 'full' || !has(self.adapter)",
            "adapter has no meaning with method: full; remove adapter, or write method: lora",
            lambda s: s.method != "full" or s.adapter is None,
        ),
        Rule(
            "!has(self.model.scratch) || !has(self.training) || !has(self.training.maxLength) || "
            "self.training.maxLength <= self.model.scratch.maxPositionEmbeddings",
            "training.maxLength must not be above model.scratch.maxPositionEmbeddings; "
            "lower the one or raise the other",
            lambda s: s.model.scratch is None or s.training.max_length <= s.model.scratch.max_position_embeddings,
        ),
    )

    model: ModelSpec = Field(
        description="The model to fine-tune.", examples=[{"uri": "hf://HuggingFaceTB/SmolLM2-135M-Instruct"}]
    )
    task: Literal["textGeneration"] = Field(default="textGeneration", description="What the model learns to do.")
    method: Literal["lora", "dora", "full"] = Field(
        default="lora",
        description="lora or dora (a small adapter is trained), or full (all weights are trained).",
    )
    adapter: AdapterSpec | None = Field(
        default=None,
        description="Settings of the adapter, with lora and dora; rank 16 on all linear layers by default.",
    )
    dataset: DatasetSpec = Field(
        description="The rows to learn from.", examples=[{"sources": [{"uri": "./data.jsonl"}]}]
    )
    training: TrainingSpec = Field(default=TrainingSpec(), description="Hyper-parameters.")
    distributed: DistributedSpec = Field(
        default=DistributedSpec(), description="How training is spread over processes."
    )
    evaluation: EvaluationSpec = Field(
        default=EvaluationSpec(), description="Evaluation before and after training, and the gates of quality."
    )
    export: ExportSpec = Field(default=ExportSpec(), description="Export to ONNX.")
    output: OutputSpec | None = Field(
        default=None, description="Where the artifact goes; by default a folder beside the job's work."
    )


class JobConfig(SpecModel):
    """The file `config.json` of a work folder: a job's name and what to train."""

    name: str = Field(min_length=1, max_length=253, description="Name of the FineTuneJob.")
    namespace: str = Field(default="default", min_length=1, max_length=63, description="Namespace of the FineTuneJob.")
    spec: TrainingJobSpec = Field(description="What to train.")
