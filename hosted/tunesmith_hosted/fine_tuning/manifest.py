"""The FineTuneJob of a job. Pure: the same row and settings give the same manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith_api.objects import API_VERSION
from tunesmith_hosted.config.bases import BaseModelSettings
from tunesmith_hosted.database.tables import Job
from tunesmith_hosted.fine_tuning.learning_rate import default_learning_rate
from tunesmith_hosted.fine_tuning.method import hyperparameters_of

Object = dict[str, Any]

PROJECT_LABEL = "tunesmith.dev/project"
_FORMATS = {"supervised": "messages", "dpo": "openaiPreference"}
_BATCH, _STEPS_AN_EPOCH = 16, 20
_CHECKPOINTS = 2
"""Checkpoints before the last that can be asked."""
_WEEK = 7 * 86_400


def job_manifest(
    job: Job, base: BaseModelSettings, namespace: str, sources: Mapping[str, Object], rows: int, output: str | None
) -> tuple[Object, dict[str, Any]]:
    """Return the FineTuneJob of a job, and the hyper-parameters that were chosen for it.

    Args:
        job: The job.
        base: Its base model.
        namespace: Namespace of the project.
        sources: `training`, and if it was given `validation`: entries of `spec.dataset.sources`.
        rows: Rows of the training file.
        output: URI that the artifact goes to; None for the work's own folder.
    """
    kind = job.method["type"]
    model = base.model if job.start is None else {"uri": job.start}
    spec: Object = merged(base.job, {"model": model, "method": base.method})
    dataset: Object = {"sources": [dict(sources["training"])], "format": _FORMATS[kind]}
    if "validation" in sources:
        dataset["validation"] = {"sources": [dict(sources["validation"])]}
    spec = merged(spec, {"dataset": dataset, "training": {"seed": job.seed}})
    if "validation" in sources:
        spec["dataset"]["validation"].pop("fraction", None)
    if kind == "dpo":
        spec["objective"] = "dpo"
    if output is not None:
        spec = merged(spec, {"output": {"uri": output}})
    spec.setdefault("ttlSecondsAfterFinished", _WEEK)
    spec["training"]["checkpoint"] = {"publish": _CHECKPOINTS, **spec["training"].get("checkpoint", {})}
    if not spec.get("export", {}).get("adapterOnly"):
        spec["export"] = {"mergeWeights": True, **spec.get("export", {})}  # for jobs that start from the model
    chosen = _choose(spec, hyperparameters_of(job.method), rows)
    metadata = {
        "name": job.object_name,
        "namespace": namespace,
        "labels": {PROJECT_LABEL: job.project_id, "app.kubernetes.io/managed-by": "tunesmith-hosted"},
    }
    return {"apiVersion": API_VERSION, "kind": "FineTuneJob", "metadata": metadata, "spec": spec}, chosen


def merged(some: Mapping[str, Any], others: Mapping[str, Any]) -> Object:
    """Return both, objects within them merged too; where they differ the second wins."""
    result = dict(some)
    for key, value in others.items():
        before = result.get(key)
        result[key] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return result


def _choose(spec: Object, given: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Write the hyper-parameters into a spec, and return those that can be told."""
    training = spec["training"]
    chosen: dict[str, Any] = {}
    processes = _processes(spec)
    batch = given["batch_size"]
    if batch == "auto" and "globalBatchSize" not in training:
        # Few rows would otherwise make few steps.
        batch = max(1, min(_BATCH, rows // _STEPS_AN_EPOCH))
    if batch != "auto":
        training["globalBatchSize"] = -(-batch // processes) * processes
        training.pop("microBatchSize", None)
    chosen["batch_size"] = training["globalBatchSize"]
    epochs = given["n_epochs"]
    if epochs != "auto":
        training["epochs"] = epochs
        training.pop("maxSteps", None)
    elif "maxSteps" not in training:
        training.setdefault("epochs", 3)
    if "epochs" in training:
        chosen["n_epochs"] = round(training["epochs"])
    multiplier = given["learning_rate_multiplier"]
    if multiplier != "auto":
        training["learningRate"] = min(1.0, default_learning_rate(spec) * multiplier)
    chosen["learning_rate_multiplier"] = 1.0 if multiplier == "auto" else multiplier
    if "beta" in given:
        if given["beta"] != "auto":
            spec["dpo"] = {**spec.get("dpo", {}), "beta": given["beta"]}
        chosen["beta"] = spec.get("dpo", {}).get("beta", 0.1)
    return chosen


def _processes(spec: Object) -> int:
    """Return the number of processes that train together, whose multiple a batch is."""
    resources = spec.get("resources", {})
    per_node = spec.get("distributed", {}).get("numProcPerNode") or max(1, resources.get("gpusPerNode", 0))
    return int(resources.get("nodes", 1)) * int(per_node)
