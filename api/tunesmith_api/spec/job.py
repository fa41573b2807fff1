"""The whole job as the trainer reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, ClassVar

from pydantic import Field

from tunesmith_api.methods import (
    DEFAULT_METHOD,
    METHODS,
    beside_base_methods,
    describe_methods,
    listed,
    methods_with,
    methods_without,
    whole_methods,
)
from tunesmith_api.spec.adapter import AdapterSettings, AdapterSpec, adapter_settings
from tunesmith_api.spec.base import Rule, SpecModel
from tunesmith_api.spec.choice import OneOf
from tunesmith_api.spec.classification import ClassificationSpec
from tunesmith_api.spec.data import DatasetSpec
from tunesmith_api.spec.model import ModelSpec
from tunesmith_api.spec.objective import DpoSpec, Objective
from tunesmith_api.spec.publish import EvaluationSpec, ExportSpec, OutputSpec, Precision
from tunesmith_api.spec.training import DistributedSpec, TrainingSpec
from tunesmith_api.spec.translation import TranslationSpec
from tunesmith_api.tasks import DEFAULT_TASK, PREFERENCE_FORMATS, PREFERENCE_METRICS, TASKS


def _has_weights(method: str) -> Callable[[TrainingJobSpec], bool]:
    return lambda spec: spec.method != method or spec.export.precisions != () or spec.export.merge_weights


def _has_no_adapter(method: str) -> Callable[[TrainingJobSpec], bool]:
    return lambda spec: spec.method != method or spec.adapter is None


def _adapter_only_rule(name: str, because: str) -> Rule:
    """Return the rule that a method whose update does not stay low-rank is merged."""
    return Rule(
        f"self.method != '{name}' || !({_ADAPTER_ONLY})",
        f"export.adapterOnly: true does not go with method: {name}, which {because}; write export: "
        f"{{adapterOnly: false}}, which merges it into the base, or method: {listed(beside_base_methods())}",
        lambda spec: spec.method != name or not spec.export.adapter_only,
    )


_ADAPTER_ONLY = "has(self.export) && has(self.export.adapterOnly) && self.export.adapterOnly"


def _partition_rule(name: str) -> Rule:
    """Return the rule that a method whose weights cannot be partitioned goes without ZeRO 3."""

    def check(spec: TrainingJobSpec) -> bool:
        given = spec.distributed
        asked = given.strategy == "zero3" or given.offload == "all" or given.nvme_path is not None
        return spec.method != name or not asked

    asked = (
        "(has(self.distributed.strategy) && self.distributed.strategy == 'zero3') || "
        "(has(self.distributed.offload) && self.distributed.offload == 'all') || has(self.distributed.nvmePath)"
    )
    return Rule(
        f"self.method != '{name}' || !has(self.distributed) || !({asked})",
        f"method: {name} does not go with zero3, nor with offload: all and nvmePath, which need it, as its layers read "
        f"whole weights; write strategy: zero2, or method: {DEFAULT_METHOD}",
        check,
    )


_ADAPTER_SETTINGS = (
    # Field, its name in the API, the value that means nothing in CEL, what a method that has it has.
    ("rank", "rank", "", "matrices of a rank"),
    ("alpha", "alpha", "", "an update that is scaled"),
    ("dropout", "dropout", "", "matrices that read the layer's input"),
    ("block_size", "blockSize", "", "a rotation in blocks"),
    ("use_rslora", "useRslora", "false", "LoRA's scale"),
    ("init_lora_weights", "initLoraWeights", "'default'", "base weights that are not quantized, and no magnitudes"),
    ("loraplus_lr_ratio", "loraplusLrRatio", "", "LoRA's matrix B"),
)


def _setting_rule(field: str, alias: str, neutral: str, what: str) -> Rule:
    """Return the rule that a field of `adapter` is set with the methods only in which it has a meaning."""
    without = methods_without(field)

    def check(spec: TrainingJobSpec) -> bool:
        value = getattr(spec.adapter, field, None)
        means_nothing = value is None or (neutral != "" and value in (0, "default"))
        info = METHODS[spec.method]
        return means_nothing or not info.trains_adapter or field in info.adapter_settings

    unset = f" || self.adapter.{alias} == {neutral}" if neutral else ""
    names = ", ".join(f"'{name}'" for name in without)
    return Rule(
        f"!(self.method in [{names}]) || !has(self.adapter) || !has(self.adapter.{alias}){unset}",
        f"adapter.{alias} has no meaning with method: {listed(without)}, as it needs {what}; "
        f"remove {alias}, or write method: {listed(methods_with(field))}",
        check,
    )


def _task_rules(name: str) -> tuple[Rule, ...]:
    """Return the rules that a task is asked for what it has: formats, metrics of gates and precisions."""
    info = TASKS[name]
    formats = ("auto", *info.formats)
    metrics, precisions, scratch = info.metric_names, info.precisions, info.scratch_architectures
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
        Rule(
            f"self.task != '{name}' || !has(self.export) || !has(self.export.precisions) || "
            f"self.export.precisions.all(p, p in {_quoted(precisions)})",
            f"export.precisions: task {name} is not exported in this precision; write one of {', '.join(precisions)}",
            lambda spec: spec.task != name or all(p in precisions for p in spec.export.precisions or ()),
        ),
        Rule(
            f"self.task != '{name}' || !has(self.model.scratch) || "
            f"self.model.scratch.architecture in {_quoted(scratch)}",
            f"model.scratch: task {name} is not learned by this architecture; "
            f"write architecture: {listed(list(scratch))}",
            lambda spec: spec.task != name or spec.model.scratch is None or spec.model.scratch.architecture in scratch,
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
        *(
            Rule(
                f"self.method != '{name}' || !has(self.adapter)",
                f"adapter has no meaning with method: {name}; remove adapter, or write method: {DEFAULT_METHOD}",
                _has_no_adapter(name),
            )
            for name in whole_methods()
        ),
        *(_setting_rule(*setting) for setting in _ADAPTER_SETTINGS if methods_without(setting[0])),
        *(
            Rule(
                f"self.method != '{name}' || !has(self.export) || !has(self.export.precisions) || "
                "self.export.precisions.size() > 0 || (has(self.export.mergeWeights) && self.export.mergeWeights)",
                f"export.precisions [] with method: {name} leaves no weights to publish; write "
                "export: {precisions: [], mergeWeights: true}, or precisions: [int4]",
                _has_weights(name),
            )
            for name in whole_methods()
        ),
        *(_partition_rule(name) for name, info in METHODS.items() if not info.partitions_weights),
        *(_adapter_only_rule(name, info.merged_because) for name, info in METHODS.items() if info.merged_because),
        Rule(
            f"self.task == '{DEFAULT_TASK}' || !({_ADAPTER_ONLY})",
            f"export.adapterOnly: true is for task: {DEFAULT_TASK}, whose server takes adapters; write export: "
            "{adapterOnly: false}, which merges the adapter into the base",
            lambda spec: spec.task == DEFAULT_TASK or not spec.export.adapter_only,
        ),
        *(rule for name in TASKS for rule in _task_rules(name)),
        *_OBJECTIVE_RULES,
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
