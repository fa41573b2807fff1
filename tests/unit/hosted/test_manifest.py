"""The FineTuneJob of a job, and the workspaces of models."""

from typing import Any

import pytest

from tunesmith_api.objects import FineTuneJob, InferenceWorkspace
from tunesmith_hosted.config.bases import BaseModelSettings
from tunesmith_hosted.database.tables import Job
from tunesmith_hosted.fine_tuning.manifest import job_manifest
from tunesmith_hosted.fine_tuning.workspace import workspace_manifest

SOURCE = {"uri": "s3://bucket/file-1.jsonl", "sha256": "0" * 64}
AUTO = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}


def base_of(**given: Any) -> BaseModelSettings:
    return BaseModelSettings(name="base", **{"model": {"uri": "hf://organisation/base"}, **given})


def made(
    base: BaseModelSettings,
    kind: str = "supervised",
    rows: int = 1000,
    validation: bool = False,
    **hyperparameters: Any,
) -> tuple[dict[str, Any], dict[str, Any]]:
    values = AUTO | ({"beta": "auto"} if kind == "dpo" else {}) | hyperparameters
    job = Job(id="ftjob-A", project_id="proj_1", seed=5, method={"type": kind, kind: {"hyperparameters": values}})
    job.object_name = "ft-a"
    sources = {"training": SOURCE} | ({"validation": SOURCE} if validation else {})
    manifest, chosen = job_manifest(job, base, "project-1", sources, rows, "s3://bucket/artifacts/ft-a")
    FineTuneJob.model_validate(manifest)
    return manifest["spec"], chosen


@pytest.mark.parametrize(
    ("rows", "job", "given", "training", "chosen"),
    [
        (1000, {}, {}, {"epochs": 3, "globalBatchSize": 16}, {"n_epochs": 3, "batch_size": 16}),
        (100, {}, {}, {"epochs": 3, "globalBatchSize": 5}, {"n_epochs": 3, "batch_size": 5}),
        (10, {}, {"n_epochs": 7}, {"epochs": 7, "globalBatchSize": 1}, {"n_epochs": 7, "batch_size": 1}),
        (10, {"training": {"maxSteps": 4}}, {}, {"maxSteps": 4, "globalBatchSize": 1}, {"batch_size": 1}),
        (
            10,
            {"training": {"maxSteps": 4}},
            {"n_epochs": 2},
            {"epochs": 2, "globalBatchSize": 1},
            {"n_epochs": 2, "batch_size": 1},
        ),
        (
            10,
            {"training": {"globalBatchSize": 8, "microBatchSize": 4}},
            {},
            {"epochs": 3, "globalBatchSize": 8, "microBatchSize": 4},
            {"n_epochs": 3, "batch_size": 8},
        ),
        (
            10,
            {"resources": {"gpusPerNode": 4}},
            {"batch_size": 6},
            {"epochs": 3, "globalBatchSize": 8},
            {"n_epochs": 3, "batch_size": 8},
        ),
    ],
)
def test_hyperparameters(rows: int, job: Any, given: Any, training: Any, chosen: Any) -> None:
    spec, found = made(base_of(job=job), rows=rows, **given)
    assert spec["training"] == {"seed": 5, "checkpoint": {"publish": 2}, **training}
    assert found == {"learning_rate_multiplier": 1.0, **chosen}


@pytest.mark.parametrize(
    ("base", "kind", "multiplier", "rate"),
    [
        ({}, "supervised", 0.5, 1e-4),
        ({"method": "full"}, "supervised", 2, 4e-5),
        ({"method": "full"}, "dpo", 2, 2e-6),
        ({"job": {"training": {"learningRate": 1e-3}}}, "supervised", 2, 2e-3),
        ({"model": {"scratch": {}}, "method": "full"}, "supervised", 2, 2e-3),
        ({}, "supervised", 1000, 0.2),
    ],
)
def test_a_multiplier_multiplies_what_the_base_would_learn_with(
    base: Any, kind: str, multiplier: float, rate: float
) -> None:
    spec, chosen = made(base_of(**base), kind, learning_rate_multiplier=multiplier)
    assert spec["training"]["learningRate"] == pytest.approx(rate)
    assert chosen["learning_rate_multiplier"] == multiplier


def test_preferences() -> None:
    spec, chosen = made(base_of(job={"dpo": {"lossType": "ipo"}}), "dpo", beta=0.3)
    assert (spec["objective"], spec["dataset"]["format"]) == ("dpo", "openaiPreference")
    assert spec["dpo"] == {"lossType": "ipo", "beta": 0.3} and chosen["beta"] == 0.3
    spec, chosen = made(base_of(), "dpo")
    assert "dpo" not in spec and chosen["beta"] == 0.1


def test_files_and_settings_of_the_base() -> None:
    job = {"dataset": {"validation": {"fraction": 0.2}}, "storage": {"uri": "s3://bucket/work"}}
    spec, _ = made(base_of(job=job))
    assert spec["dataset"] == {"sources": [SOURCE], "format": "messages", "validation": {"fraction": 0.2}}
    assert spec["output"] == {"uri": "s3://bucket/artifacts/ft-a"} and spec["storage"] == job["storage"]
    spec, _ = made(base_of(job=job), validation=True)
    assert spec["dataset"]["validation"] == {"sources": [SOURCE]}


def test_what_a_job_keeps_is_the_bases_to_decide() -> None:
    spec, _ = made(base_of())
    assert spec["export"] == {"mergeWeights": True}
    job = {"training": {"checkpoint": {"publish": 0, "keep": 1}}, "export": {"mergeWeights": False}}
    spec, _ = made(base_of(job=job))
    assert (spec["training"]["checkpoint"], spec["export"]) == (job["training"]["checkpoint"], job["export"])
    spec, _ = made(base_of(job={"export": {"adapterOnly": True}}))
    assert spec["export"] == {"adapterOnly": True}


@pytest.mark.parametrize("awake", [True, False])
def test_workspaces(awake: bool) -> None:
    base = base_of(workspace={"runtime": {"precision": "int4"}, "replicas": 2})
    manifest = workspace_manifest("ft-a", "project-1", "s3://bucket/a", base, awake=awake, project_id="proj_1")
    InferenceWorkspace.model_validate(manifest)
    assert manifest["spec"] == {
        "runtime": {"precision": "int4"},
        "replicas": 2 if awake else 0,
        "model": {"uri": "s3://bucket/a"},
    }
    assert manifest["metadata"]["labels"]["tunesmith.dev/project"] == "proj_1"
    assert workspace_manifest("ft-a", "project-1", "s3://bucket/a", None, awake=True)["spec"] == {
        "model": {"uri": "s3://bucket/a"}
    }
