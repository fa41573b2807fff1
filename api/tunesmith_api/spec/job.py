"""The whole job as the trainer reads it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import Field

from tunesmith_api.methods import DEFAULT_METHOD, METHODS, describe_methods, listed
from tunesmith_api.spec.adapter import AdapterSettings, AdapterSpec, adapter_settings
from tunesmith_api.spec.base import Rule, SpecModel
from tunesmith_api.spec.choice import OneOf
from tunesmith_api.spec.classification import ClassificationSpec
from tunesmith_api.spec.data import DatasetSpec
from tunesmith_api.spec.method_rules import METHOD_RULES
from tunesmith_api.spec.model import ModelSpec
from tunesmith_api.spec.objective import DpoSpec, Objective
from tunesmith_api.spec.publish import EvaluationSpec, ExportSpec, OutputSpec, Precision
from tunesmith_api.spec.training import DistributedSpec, TrainingSpec
from tunesmith_api.spec.translation import TranslationSpec
from tunesmith_api.tasks import DEFAULT_TASK, PREFERENCE_FORMATS, PREFERENCE_METRICS, TASKS


def _task_rules(name: str) -> tuple[Rule, ...]:
    """Return the rules that a task is asked for what it has: formats, metrics of gates and precisions."""
    info = TASKS[name]
    formats = ("auto", *info.formats)
    metrics, scratch = info.metric_names, info.scratch_architectures
    return (
        Rule(
            f"self.task != '{name}' || !has(self.dataset.format) || self.dataset.format in {_quoted(formats)}",
            f"task: {name} does not read this dataset.format; write one of {', '.join(formats)}",
            lambda spec: spec.task != name or spec.dataset.format in formats,
        ),
        Rule(
            f"self.task != '{name}' || !has(self.evaluation) || !has(self.evaluation.gates) || "
            f"self.evaluation.gates.all(gate, gate.metric in {_quoted(metrics)})",
            f"evaluation.gates: task {name} does not have this metric; write one of {', '.join(metrics)}",
            lambda spec: spec.task != name or all(gate.metric in metrics for gate in spec.evaluation.gates),
        ),
        *_precision_rules(name),
        Rule(
            f"self.task != '{name}' || !has(self.model.scratch) || "
            f"self.model.scratch.architecture in {_quoted(scratch)}",
            f"model.scratch: task {name} is not learned by this architecture; "
            f"write architecture: {listed(list(scratch))}",
            lambda spec: spec.task != name or spec.model.scratch is None or spec.model.scratch.architecture in scratch,
        ),
    )


def _precision_rules(name: str) -> tuple[Rule, ...]:
    """Return the rule on a task's precisions, or none if it is exported in all."""
    precisions = TASKS[name].precisions
    if set(precisions) == set(Precision):
        return ()
    return (
        Rule(
            f"self.task != '{name}' || !has(self.export) || !has(self.export.precisions) || "
            f"self.export.precisions.all(p, p in {_quoted(precisions)})",
            f"export.precisions: task {name} is not exported in this precision; write one of {', '.join(precisions)}",
            lambda spec: spec.task != name or all(p in precisions for p in spec.export.precisions or ()),
        ),
    )


def _problem_type_fits(spec: TrainingJobSpec) -> bool:
    """Return whether the kind of labels goes with the format of the rows, as far as both are named."""
    kind = spec.classification.problem_type if spec.classification else "auto"
    if "auto" in (kind, spec.dataset.format):
        return True
    return (kind == "multiLabelClassification") == (spec.dataset.format == "textLabels")


def _quoted(names: Iterable[str]) -> str:
    """Return a list of strings in CEL."""
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"


_OBJECTIVE_RULES = (
    Rule(
        f"self.objective != 'dpo' || self.task == '{DEFAULT_TASK}'",
        f"objective: dpo compares answers of a model that generates text; write task: {DEFAULT_TASK}, or remove "
        "objective",
        lambda s: not s.compares_answers or s.task == DEFAULT_TASK,
    ),
    Rule(
        "self.objective == 'dpo' || !has(self.dpo)",
        "dpo has no meaning with objective: supervised; write objective: dpo, or remove dpo",
        lambda s: s.compares_answers or s.dpo is None,
    ),
    Rule(
        "self.objective != 'dpo' || !has(self.dataset.format) || self.dataset.format in "
        f"{_quoted(('auto', *PREFERENCE_FORMATS))}",
        "objective: dpo reads pairs of answers; write format: preference, or remove format",
        lambda s: not s.compares_answers or s.dataset.format in ("auto", *PREFERENCE_FORMATS),
    ),
    Rule(
        "self.objective == 'dpo' || !has(self.dataset.format) || "
        f"!(self.dataset.format in {_quoted(PREFERENCE_FORMATS)})",
        "rows of pairs of answers are read with objective: dpo; write objective: dpo, or another dataset.format",
        lambda s: s.compares_answers or s.dataset.format not in PREFERENCE_FORMATS,
    ),
    Rule(
        "self.objective == 'dpo' || !has(self.evaluation) || !has(self.evaluation.gates) || "
        f"!self.evaluation.gates.exists(gate, gate.metric in {_quoted(PREFERENCE_METRICS)})",
        f"evaluation.gates: {' and '.join(PREFERENCE_METRICS)} are metrics of objective: dpo; write objective: dpo, or "
        "a gate on another metric",
        lambda s: s.compares_answers or not any(g.metric in PREFERENCE_METRICS for g in s.evaluation.gates),
    ),
    Rule(
        "self.objective != 'dpo' || !has(self.training) || !has(self.training.packing) || !self.training.packing",
        "training.packing: true does not go with objective: dpo, which keeps the answers of a pair apart; write "
        "packing: false, or remove it",
        lambda s: not (s.compares_answers and s.training.packing),
    ),
    Rule(
        "self.objective != 'dpo' || !has(self.training) || !has(self.training.lossOn) || "
        "self.training.lossOn == 'assistant'",
        "training.lossOn: all has no meaning with objective: dpo, which compares the answers; remove lossOn",
        lambda s: not s.compares_answers or s.training.loss_on == "assistant",
    ),
)
"""The rules about `spec.objective`."""


class TrainingJobSpec(SpecModel):
    """What to train: the part of a FineTuneJob's spec that does not depend on where it runs."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *METHOD_RULES,
        *(rule for name in TASKS for rule in _task_rules(name)),
        *_OBJECTIVE_RULES,
        Rule(
            f"self.task == '{DEFAULT_TASK}' || !has(self.export) || !has(self.export.kvCache)",
            f"export.kvCache is for task: {DEFAULT_TASK}, whose server keeps keys and values; remove kvCache",
            lambda spec: spec.task == DEFAULT_TASK or spec.export.kv_cache is None,
        ),
        Rule(
            f"self.task == '{DEFAULT_TASK}' || !has(self.export) || !has(self.export.int4BlockSize)",
            f"export.int4BlockSize is for task: {DEFAULT_TASK}; remove int4BlockSize",
            lambda spec: spec.task == DEFAULT_TASK or spec.export.int4_block_size is None,
        ),
        Rule(
            "!has(self.classification) || self.task == 'sequenceClassification'",
            "classification belongs to task: sequenceClassification; remove classification, or write that task",
            lambda spec: spec.classification is None or spec.task == "sequenceClassification",
        ),
        Rule(
            "!has(self.translation) || self.task == 'translation'",
            "translation belongs to task: translation; remove translation, or write that task",
            lambda spec: spec.translation is None or spec.task == "translation",
        ),
        Rule(
            "!has(self.classification) || !has(self.classification.problemType) || !has(self.dataset.format) || "
            "self.classification.problemType == 'auto' || self.dataset.format == 'auto' || "
            "(self.classification.problemType == 'multiLabelClassification') == (self.dataset.format == 'textLabels')",
            "classification.problemType and dataset.format contradict each other: multiLabelClassification reads "
            "textLabels, the other problem types textLabel; remove one of the two fields",
            _problem_type_fits,
        ),
        Rule(
            "!has(self.model.scratch) || !has(self.training) || !has(self.training.maxLength) || "
            "self.training.maxLength <= self.model.scratch.maxPositionEmbeddings",
            "training.maxLength must not be above model.scratch.maxPositionEmbeddings; "
            "lower the one or raise the other",
            lambda s: s.model.scratch is None or s.training.max_length <= s.model.scratch.max_position_embeddings,
        ),
        Rule(
            f"!has(self.model.scratch) || self.task != '{DEFAULT_TASK}' || (has(self.export) && "
            "has(self.export.precisions) && self.export.precisions.size() == 0) || "
            "(self.model.scratch.hiddenSize / self.model.scratch.numAttentionHeads) % 16 == 0",
            f"model.scratch: hiddenSize / numAttentionHeads (the size of a head) must be a multiple of 16 to export a "
            f"model of task {DEFAULT_TASK}; write for example hiddenSize: 256, numAttentionHeads: 4",
            lambda s: (
                s.model.scratch is None
                or s.task != DEFAULT_TASK
                or s.export.precisions == ()
                or (s.model.scratch.hidden_size // s.model.scratch.num_attention_heads) % 16 == 0
            ),
        ),
    )

    model: ModelSpec = Field(
        description="The model to fine-tune.", examples=[{"uri": "hf://HuggingFaceTB/SmolLM2-135M-Instruct"}]
    )
    task: Annotated[str, OneOf(TASKS)] = Field(default=DEFAULT_TASK, description="What the model learns to do.")
    objective: Objective = Field(
        default="supervised",
        description="What training minimises: supervised (the loss of the rows' answers), or dpo (direct preference "
        "optimisation: rows have a better and a worse answer, and the model learns to prefer the better one). dpo is "
        "for textGeneration.",
    )
    dpo: DpoSpec | None = Field(default=None, description="Settings of objective dpo.", examples=[{"beta": 0.1}])
    method: Annotated[str, OneOf(METHODS)] = Field(default=DEFAULT_METHOD, description=f"{describe_methods()}.")
    adapter: AdapterSpec | None = Field(
        default=None,
        description="Settings of the adapter, with the methods that train one; on all linear layers by default.",
    )
    dataset: DatasetSpec = Field(
        description="The rows to learn from.", examples=[{"sources": [{"uri": "./data.jsonl"}]}]
    )
    classification: ClassificationSpec | None = Field(
        default=None,
        description="What the labels are and what each class weighs, with task: sequenceClassification.",
    )
    translation: TranslationSpec | None = Field(
        default=None,
        description="The languages and the prefix of sources, with task: translation.",
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

    @property
    def adapter_settings(self) -> AdapterSettings | None:
        """The adapter's settings with the defaults of the method; None where the method trains none."""
        return adapter_settings(self.method, self.adapter)

    @property
    def compares_answers(self) -> bool:
        """Whether rows are pairs of answers, and the objective is to prefer the better ones."""
        return self.objective == "dpo"

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The number formats that are exported: those that are named, or the task's own."""
        named = self.export.precisions
        return named if named is not None else tuple(map(Precision, TASKS[self.task].default_precisions))


class JobConfig(SpecModel):
    """The file `config.json` of a work folder: a job's name and what to train."""

    name: str = Field(min_length=1, max_length=253, description="Name of the FineTuneJob.")
    namespace: str = Field(default="default", min_length=1, max_length=63, description="Namespace of the FineTuneJob.")
    spec: TrainingJobSpec = Field(description="What to train.")
