"""Translates a job of OpenAI's into manifests, and says what was translated and what has no counterpart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith_api.methods import DPO_RATE_SHARE, METHODS
from tunesmith_api.objects import API_VERSION
from tunesmith_cli.imports.defaults import DEFAULT_BASE
from tunesmith_cli.imports.errors import ImportFailedError
from tunesmith_cli.imports.golden import GoldenSet
from tunesmith_cli.imports.jobs import ForeignJob
from tunesmith_cli.imports.rows import RowFile

DEFAULT_GATE = ("rougeL", 0.5)
DEFAULT_ROWS = 200
"""Rows of validation that are evaluated where a manifest does not say how many."""

_PAIRS = "openaiPreference"


@dataclass(frozen=True)
class Choices:
    """What the user chooses of the new job.

    Attributes:
        base: URI of the model that is fine-tuned.
        method: How.
        gates: Metrics and the least that passes, on the golden set; none for the default.
    """

    base: str = DEFAULT_BASE
    method: str = "lora"
    gates: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Translation:
    """The manifests of a job, and what is said about them.

    Attributes:
        job: The FineTuneJob.
        workspace: The InferenceWorkspace.
        translated: What was translated, for people.
        missing: What has no counterpart, and what to do about it.
    """

    job: dict[str, Any]
    workspace: dict[str, Any]
    translated: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def translate(
    job: ForeignJob,
    choices: Choices,
    training: Sequence[tuple[RowFile, dict[str, Any]]],
    validation: tuple[RowFile, dict[str, Any]] | None,
    golden: tuple[GoldenSet, dict[str, Any]] | None,
) -> Translation:
    """Return the manifests of a job.

    Args:
        job: The job.
        choices: What the user chooses.
        training: Its files of rows, each with the source by which its FineTuneJob reads it.
        validation: Its file of rows to validate with, likewise.
        golden: Answers of the model that it has made, likewise.

    Raises:
        ImportFailedError: It has no counterpart at all.
    """
    where = job.id or "the data"
    if job.method not in ("supervised", "dpo"):
        raise ImportFailedError(f"{where}: method {job.method} has no counterpart; supervised and dpo have")
    formats = {rows.format for rows, _ in training}
    if len(formats) > 1:
        raise ImportFailedError(f"{where}: the files hold {', '.join(sorted(formats))}; import each kind by itself")
    form = formats.pop()
    if job.id and (job.method == "dpo") != (form == _PAIRS):
        raise ImportFailedError(f"{where}: method {job.method} does not learn from rows of the format {form}")
    if validation is not None and validation[0].format != form:
        raise ImportFailedError(
            f"{where}: trained on {form}, validated with {validation[0].format}; give rows of {form}"
        )
    if choices.method not in METHODS:
        raise ImportFailedError(f"--method must be one of {', '.join(METHODS)}, not {choices.method}")
    notes = Translation({}, {})
    spec: dict[str, Any] = {
        "model": {"uri": choices.base},
        "method": choices.method,
        **({"objective": "dpo"} if form == _PAIRS else {}),
        "dataset": {"sources": [source for _, source in training], "format": form},
    }
    for rows, _ in training:
        notes.translated.append(f"{rows.path.name} ({rows.rows} rows) -> spec.dataset.sources, format {form}")
    if job.model:
        notes.missing.append(f"model {job.model}: OpenAI keeps its weights; spec.model is fine-tuned instead (--base)")
    _add_training(spec, job, notes)
    _add_validation(spec, form, choices, validation, golden, notes)
    metadata = {"name": job.name}
    notes.job.update(apiVersion=API_VERSION, kind="FineTuneJob", metadata=metadata, spec=spec)
    notes.workspace.update(
        apiVersion=API_VERSION, kind="InferenceWorkspace", metadata=metadata, spec={"model": {"fineTuneJob": job.name}}
    )
    if job.fine_tuned_model:
        notes.missing.append(f"name {job.fine_tuned_model}: requests to the workspace say model {job.name}")
    for kind in job.integrations:
        notes.missing.append(
            f"integration {kind}: read the FineTuneJob's status and training_log.jsonl of its artifact"
        )
    for key, value in job.metadata.items():
        notes.missing.append(f"metadata {key}={value}: write it as an annotation if it is needed")
    return notes


def _add_training(spec: dict[str, Any], job: ForeignJob, notes: Translation) -> None:
    training: dict[str, Any] = {}
    given = job.hyperparameters
    if epochs := given.get("n_epochs"):
        training["epochs"] = epochs
        notes.translated.append(f"n_epochs {epochs} -> spec.training.epochs")
    if batch := given.get("batch_size"):
        training["globalBatchSize"] = int(batch)
        notes.translated.append(f"batch_size {batch} -> spec.training.globalBatchSize")
    if multiplier := given.get("learning_rate_multiplier"):
        default = METHODS[spec["method"]].default_learning_rate * (DPO_RATE_SHARE if "objective" in spec else 1)
        training["learningRate"] = float(f"{min(1.0, default * multiplier):.6g}")
        notes.translated.append(
            f"learning_rate_multiplier {multiplier} -> spec.training.learningRate: so many times {default:g}, the "
            f"default of {spec['method']}, since the rate that OpenAI multiplies is not known"
        )
    if job.seed is not None:
        training["seed"] = job.seed
        notes.translated.append(f"seed {job.seed} -> spec.training.seed")
    if training:
        spec["training"] = training
    if "objective" in spec:
        notes.translated.append("method dpo -> spec.objective")
        if beta := given.get("beta"):
            spec["dpo"] = {"beta": beta}
            notes.translated.append(f"beta {beta} -> spec.dpo.beta")


def _add_validation(
    spec: dict[str, Any],
    form: str,
    choices: Choices,
    validation: tuple[RowFile, dict[str, Any]] | None,
    golden: tuple[GoldenSet, dict[str, Any]] | None,
    notes: Translation,
) -> None:
    if golden is not None and form == "messages":
        found, source = golden
        gates = choices.gates or (DEFAULT_GATE,)
        spec["dataset"]["validation"] = {"sources": [source]}
        spec["evaluation"] = {
            "maxRows": max(DEFAULT_ROWS, found.rows),
            "maxNewTokens": found.max_tokens,
            "gates": [{"metric": metric, "min": least} for metric, least in gates],
        }
        notes.translated.append(f"{found.rows} answers of {found.model} -> spec.dataset.validation and its gates")
        if validation is not None:
            notes.missing.append(f"{validation[0].path.name}: the golden set is what is validated with")
        return
    if golden is not None:
        notes.missing.append(f"the golden set: it is of chats, the rows are of the format {form}; nothing is gated")
    if validation is not None:
        spec["dataset"]["validation"] = {"sources": [validation[1]]}
        notes.translated.append(f"{validation[0].path.name} ({validation[0].rows} rows) -> spec.dataset.validation")
