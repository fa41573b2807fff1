"""Fine-tuning jobs, their events, checkpoints and permissions, as OpenAI's clients read them."""

from __future__ import annotations

from typing import Any

from tunesmith_hosted.database.tables import Checkpoint, CheckpointPermission, Job, JobEvent

_HYPERPARAMETERS = ("batch_size", "learning_rate_multiplier", "n_epochs")


def job_object(job: Job, organization_id: str) -> dict[str, Any]:
    """Return a `fine_tuning.job`."""
    given = job.method.get(job.method["type"], {}).get("hyperparameters", {})
    return {
        "object": "fine_tuning.job",
        "id": job.id,
        "model": job.model,
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "fine_tuned_model": job.fine_tuned_model,
        "organization_id": organization_id,
        "result_files": job.result_files,
        "status": job.status,
        "validation_file": job.validation_file,
        "training_file": job.training_file,
        "hyperparameters": {name: given[name] for name in _HYPERPARAMETERS if name in given},
        "method": job.method,
        "trained_tokens": job.trained_tokens,
        "error": {"code": job.error["code"], "message": job.error["message"], "param": job.error["param"]}
        if job.error
        else None,
        "integrations": [],
        "seed": job.seed,
        "estimated_finish": job.estimated_finish,
        "metadata": job.user_metadata or None,
    }


def event_object(event: JobEvent) -> dict[str, Any]:
    """Return a `fine_tuning.job.event`."""
    return {
        "object": "fine_tuning.job.event",
        "id": event.id,
        "created_at": event.created_at,
        "level": event.level,
        "message": event.message,
        "type": event.type,
        "data": event.data,
    }


def checkpoint_object(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a `fine_tuning.job.checkpoint`."""
    return {
        "object": "fine_tuning.job.checkpoint",
        "id": checkpoint.id,
        "created_at": checkpoint.created_at,
        "fine_tuned_model_checkpoint": checkpoint.model,
        "fine_tuning_job_id": checkpoint.job_id,
        "metrics": checkpoint.metrics,
        "step_number": checkpoint.step,
    }


def permission_object(permission: CheckpointPermission) -> dict[str, Any]:
    """Return a `checkpoint.permission`."""
    return {
        "object": "checkpoint.permission",
        "id": permission.id,
        "created_at": permission.created_at,
        "project_id": permission.project_id,
    }
