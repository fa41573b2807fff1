"""What must come out: evaluation and its gates, export and its parity, the output."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunesmith_api.spec.base import Rule, SpecModel
from tunesmith_api.spec.choice import OneOf
from tunesmith_api.tasks import METRICS

PUBLISH_FIELDS = ("evaluation", "export", "output")
"""The fields of a job's spec that only the publish stage depends on. They can change until the job has succeeded."""


class Precision(StrEnum):
    """Number format of an exported ONNX model. fp16 and bf16 are for GPUs, the others for CPUs."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"


class KvCache(StrEnum):
    """Number format in which a served model keeps keys and values, where it is not the model's own."""

    INT8 = "int8"


class GateSpec(SpecModel):
    """A bound that a metric of the tuned model must keep for the model to be served."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.min) || has(self.max)",
            "a gate needs min or max; write for example {metric: exactMatch, min: 0.8}",
            lambda g: g.min is not None or g.max is not None,
        ),
        Rule(
            "!has(self.min) || !has(self.max) || self.min <= self.max",
            "min must not be above max; swap them",
            lambda g: g.min is None or g.max is None or g.min <= g.max,
        ),
    )

    metric: Annotated[str, OneOf(METRICS)] = Field(
        description="Metric on the validation rows. textGeneration: evalLoss, perplexity, tokenAccuracy, "
        "exactMatch and rougeL (0 to 1), chrf (0 to 100), with objective dpo rewardAccuracy and rewardMargin; "
        "sequenceClassification: evalLoss, accuracy, macroF1, of numbers mse and spearman; tokenClassification: "
        "evalLoss, f1, precision, recall, accuracy; translation: evalLoss, perplexity, bleu and chrf (0 to 100), "
        "exactMatch; questionAnswering: evalLoss, exactMatch, f1."
    )
    min: float | None = Field(default=None, description="Smallest value that passes.", examples=[0.8])
    max: float | None = Field(default=None, description="Largest value that passes.", examples=[1.5])


class EvaluationSpec(SpecModel):
    """How the model is evaluated before and after training."""

    max_rows: int = Field(
        default=200, ge=1, le=100_000, description="Most validation rows that are evaluated, the first ones."
    )
    max_new_tokens: int = Field(
        default=128, ge=1, le=8192, description="Most tokens generated for a row when its answer is compared."
    )
    gates: tuple[GateSpec, ...] = Field(
        default=(), max_length=16, description="Bounds that the tuned model must keep; else the job ends as GateFailed."
    )

    @property
    def needs_whole_answers(self) -> bool:
        """Whether all answers are generated to their end, also where that an answer is wrong is clear before."""
        return any(METRICS[gate.metric].compares_texts for gate in self.gates)

    @property
    def result_fields(self) -> dict[str, Any]:
        """What the results of an evaluation depend on: all but the bounds of its gates."""
        fields = {name: value for name, value in self.to_api().items() if name != "gates"}
        return {**fields, "wholeAnswers": True} if self.needs_whole_answers else fields


class ParitySpec(SpecModel):
    """How far an exported model may be from the torch model it was made from."""

    rows: int = Field(default=16, ge=1, le=1000, description="Validation rows that are compared.")
    max_logit_difference: float = Field(default=1e-3, gt=0, le=10, description="fp32: largest difference of any logit.")
    min_prediction_agreement: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="int8, int4 of tasks that answer in one pass: smallest share of equal predictions, of labels or of "
        "positions.",
    )
    min_greedy_agreement: float = Field(
        default=1.0, ge=0, le=1, description="fp32: smallest share of equal tokens in greedy generation."
    )
    min_next_token_agreement: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="int4, int8, fp16, bf16: smallest share of positions with the same most likely next token.",
    )
    max_perplexity_increase: float = Field(
        default=0.1,
        ge=0,
        le=100,
        description="int4, int8, fp16, bf16: largest relative rise of the perplexity (0.1 is 10%).",
    )


_ADAPTER_ONLY = "has(self.adapterOnly) && self.adapterOnly"
_ROUNDED = (Precision.INT4, Precision.INT8)
"""Precisions of models whose keys and values may be rounded, too."""
_FOLDER = r"^((s3|abfs|abfss|az|gs|file|memory)://.+|\.{0,2}/.+)$"


class ExportSpec(SpecModel):
    """Which ONNX models are made of the result."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.precisions) || self.precisions.all(p, self.precisions.exists_one(q, p == q))",
            "precisions must not name one twice; remove the second",
            lambda e: e.precisions is None or len(set(e.precisions)) == len(e.precisions),
        ),
        Rule(
            f"!({_ADAPTER_ONLY}) || !has(self.precisions) || self.precisions.size() > 0",
            "precisions [] with adapterOnly: true leaves no base to serve the adapter on; write precisions: [int4], or "
            "adapterOnly: false, with which the artifact has adapter/ too",
            lambda e: not e.adapter_only or e.precisions != (),
        ),
        Rule(
            f"!({_ADAPTER_ONLY}) || !has(self.precisions) || !('int8' in self.precisions)",
            "precisions: a base that takes adapters is not exported in int8; write precisions: [int4], or adapterOnly: "
            "false",
            lambda e: not e.adapter_only or Precision.INT8 not in (e.precisions or ()),
        ),
        Rule(
            f"!({_ADAPTER_ONLY}) || !has(self.mergeWeights) || !self.mergeWeights",
            "mergeWeights: true asks for the merged model, which adapterOnly: true leaves out; remove one of the two",
            lambda e: not (e.adapter_only and e.merge_weights),
        ),
        Rule(
            "!has(self.kvCache) || !has(self.precisions) || (self.precisions.size() > 0 && "
            f"self.precisions.all(p, p in {[p.value for p in _ROUNDED]}))",
            "kvCache: int8 goes with models in int4 and int8; write precisions: [int4], or remove kvCache",
            lambda e: e.kv_cache is None or e.precisions is None or set() < {*e.precisions} <= {*_ROUNDED},
        ),
        Rule(
            f"!has(self.kvCache) || !({_ADAPTER_ONLY})",
            "kvCache: int8 is measured on one model, and a base serves many adapters; remove kvCache, or write "
            "adapterOnly: false",
            lambda e: e.kv_cache is None or not e.adapter_only,
        ),
        Rule(
            "!has(self.int4BlockSize) || !has(self.precisions) || 'int4' in self.precisions",
            "int4BlockSize has no meaning without an int4 model; write precisions: [int4], or remove int4BlockSize",
            lambda e: e.int4_block_size is None or e.precisions is None or Precision.INT4 in e.precisions,
        ),
        Rule(
            f"!has(self.int4BlockSize) || !({_ADAPTER_ONLY})",
            "jobs share a base that adapters are served on, and it has blocks of 32; remove int4BlockSize, or write "
            "adapterOnly: false",
            lambda e: e.int4_block_size is None or not e.adapter_only,
        ),
        Rule(
            f"!has(self.baseUri) || ({_ADAPTER_ONLY})",
            "baseUri has no meaning without adapterOnly: true; write adapterOnly: true, or remove baseUri",
            lambda e: e.base_uri is None or e.adapter_only,
        ),
    )

    precisions: tuple[Precision, ...] | None = Field(
        default=None,
        max_length=4,
        description="Number formats to export; by default int4 for textGeneration and fp32 for the other tasks. int4, "
        "int8 and fp32 are served by an InferenceWorkspace on CPUs (textGeneration: int4 is smallest, and fastest for "
        "one answer at a time, int8 for long prompts and many answers, fp32 exact; other tasks: int8 or fp32), fp16 "
        "and bf16 on GPUs (runtime.executionProvider). [] exports none, "
        "for an adapter or a merged model that is served elsewhere.",
        examples=[["int4"]],
    )
    merge_weights: bool = Field(
        default=False, description="Also keep the merged torch model (safetensors) in the artifact, under model/."
    )
    int4_block_size: Literal[32, 64, 128] | None = Field(
        default=None,
        description="Weights of an int4 model that share a scale; 32 by default. With 64 the model is a tenth smaller "
        "and a single answer on a CPU a seventh faster; the rounding of its weights is an eighth coarser. Parity and "
        "gates are computed with the model as it is then. For task textGeneration.",
        examples=[64],
    )
    kv_cache: KvCache | None = Field(
        default=None,
        description="int8 lets the exported models keep keys and values in a quarter of the memory: more requests run "
        "at the same time, and answers are faster on CPUs; prompts take a sixth longer. Scales are measured "
        "on training rows; parity and gates are computed with the model as it is then. For task textGeneration, "
        "precisions int4 and int8.",
        examples=["int8"],
    )
    adapter_only: bool = Field(
        default=False,
        description="Publish the adapter alone, which is small, and the base model beside it once for all jobs that "
        "share it, instead of a merged model for each job. One server then answers with many adapters. For "
        "task textGeneration with a method whose update stays low-rank: lora and qlora.",
    )
    base_uri: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        pattern=_FOLDER,
        description="With adapterOnly where the base model's artifact is, or is to be written if nothing is there: a "
        "path, or an s3://, abfs://, gs:// or file:// URI. By default a folder beside the job's output, named after "
        "the base model's digest and the precisions: jobs with the same base whose outputs have the same parent folder "
        "share it.",
        examples=["s3://my-bucket/bases/smollm2"],
    )
    parity: ParitySpec = Field(default=ParitySpec(), description="Bounds on the difference that exporting makes.")

    def coarser(self, precision: Precision) -> list[str]:
        """Return the fields that ask for more rounding than an export in a precision has by itself."""
        names = ["kvCache"] if self.kv_cache is not None else []
        return [*names, "int4BlockSize"] if precision is Precision.INT4 and (self.int4_block_size or 32) > 32 else names


class OutputSpec(SpecModel):
    """Where the artifact goes."""

    uri: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        pattern=_FOLDER,
        description="A folder that does not exist yet or is empty: a path, or an s3://, abfs://, gs:// or file:// URI; "
        "by default a folder beside the job's work.",
        examples=["./artifacts/my-model"],
    )
