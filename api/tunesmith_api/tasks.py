"""What models can learn to do: one row a task, with all that follows from a task's name without torch."""

from __future__ import annotations

from dataclasses import dataclass

DECODERS = ("llama", "qwen2", "phi3")
"""Decoders among the architectures of models from scratch."""


@dataclass(frozen=True)
class MetricInfo:
    """A metric of a task's models.

    Attributes:
        name: What `spec.evaluation.gates` call it.
        needs_answers: Whether it compares answers, which rows of plain text do not have.
        compares_texts: Whether it says how much an answer is like the expected one, for which it must be whole.
        when_missing: Why there is no value, where there is none.
    """

    name: str
    needs_answers: bool = False
    compares_texts: bool = False
    when_missing: str = "it is not a finite number"


@dataclass(frozen=True)
class TaskInfo:
    """The facts about a task.

    Attributes:
        name: Value of `spec.task`, and of `task` in an artifact's manifest.
        formats: Values of `spec.dataset.format` that it reads, in the order in which they are tried.
        metrics: Its metrics.
        precisions: Values of `spec.export.precisions` that it exports.
        default_precisions: Those of them that a job exports that names none.
        engine: The kind of server that serves its models.
        scratch_architectures: Values of `spec.model.scratch.architecture` that can learn it.
    """

    name: str
    formats: tuple[str, ...]
    metrics: tuple[MetricInfo, ...]
    precisions: tuple[str, ...]
    default_precisions: tuple[str, ...]
    engine: str
    scratch_architectures: tuple[str, ...] = DECODERS

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of its metrics."""
        return tuple(metric.name for metric in self.metrics)

    @property
    def base_path(self) -> str:
        """Path of the base URL that its clients take: OpenAI's API is under /v1, other protocols are at the root."""
        return "" if self.engine == "encoder" else "/v1"


TASKS: dict[str, TaskInfo] = {}
"""The tasks by name, in the order in which the API names them."""

METRICS: dict[str, MetricInfo] = {}
"""The metrics of all tasks by name. Tasks may share one."""


def register_task(info: TaskInfo) -> None:
    """Add a task to `TASKS` and its metrics to `METRICS`, from where the validation of a spec takes them."""
    TASKS[info.name] = info
    for metric in info.metrics:
        METRICS.setdefault(metric.name, metric)


DEFAULT_TASK = "textGeneration"


def base_path(task: str | None) -> str:
    """Return the path of the base URL of a server of a task; that of the default task if it is not known."""
    return TASKS[task if task in TASKS else DEFAULT_TASK].base_path


PREFERENCE_FORMATS = ("preference", "openaiPreference")
"""Formats of rows with a better and a worse answer, which `objective: dpo` reads, and nothing else."""

PREFERENCE_METRICS = ("rewardAccuracy", "rewardMargin")
"""Metrics that only models of `objective: dpo` have."""

_LOSS = MetricInfo("evalLoss")

_NO_ANSWERS = "there are no validation rows with a prompt and an answer"

register_task(
    TaskInfo(
        name=DEFAULT_TASK,
        # Alpaca files often have a text column besides, so text comes after them. The last two are of objective dpo.
        formats=("messages", "sharegpt", "promptCompletion", "alpaca", "text", *PREFERENCE_FORMATS),
        metrics=(
            _LOSS,
            MetricInfo("perplexity"),
            MetricInfo("tokenAccuracy"),
            MetricInfo("exactMatch", needs_answers=True, when_missing=_NO_ANSWERS),
            MetricInfo("rougeL", needs_answers=True, compares_texts=True, when_missing=_NO_ANSWERS),
            MetricInfo("chrf", needs_answers=True, compares_texts=True, when_missing=_NO_ANSWERS),
            *(MetricInfo(name, when_missing="it is of objective: dpo") for name in PREFERENCE_METRICS),
        ),
        precisions=("fp32", "fp16", "bf16", "int8", "int4"),
        default_precisions=("int4",),
        engine="decoder",
    )
)

register_task(
    TaskInfo(
        name="sequenceClassification",
        formats=("textLabels", "textLabel"),
        metrics=(
            _LOSS,
            MetricInfo("accuracy", when_missing="the labels are numbers: a regression"),
            MetricInfo("macroF1", when_missing="the labels are numbers: a regression"),
            MetricInfo("mse", when_missing="the labels are classes, not numbers"),
            MetricInfo("spearman", when_missing="the labels are classes, or all predictions are equal"),
        ),
        precisions=("fp32", "int8", "int4"),
        default_precisions=("fp32",),
        engine="encoder",
        scratch_architectures=("bert", *DECODERS),
    )
)

register_task(
    TaskInfo(
        name="tokenClassification",
        formats=("tokenTags", "textSpans"),
        metrics=(_LOSS, MetricInfo("f1"), MetricInfo("precision"), MetricInfo("recall"), MetricInfo("accuracy")),
        precisions=("fp32", "int8"),
        default_precisions=("fp32",),
        engine="encoder",
        scratch_architectures=("bert",),
    )
)

register_task(
    TaskInfo(
        name="translation",
        formats=("translation", "sourceTarget"),
        metrics=(
            _LOSS,
            MetricInfo("perplexity"),
            MetricInfo("bleu", needs_answers=True),
            MetricInfo("chrf", needs_answers=True),
            MetricInfo("exactMatch", needs_answers=True),
        ),
        precisions=("fp32", "int8"),
        default_precisions=("fp32",),
        engine="encoderDecoder",
        scratch_architectures=("t5",),
    )
)

register_task(
    TaskInfo(
        name="questionAnswering",
        formats=("squad",),
        metrics=(_LOSS, MetricInfo("exactMatch"), MetricInfo("f1")),
        precisions=("fp32", "int8"),
        default_precisions=("fp32",),
        engine="encoder",
        scratch_architectures=("bert",),
    )
)
