"""Names of the InferenceWorkspaces of models."""

from __future__ import annotations

import hashlib
import re

_MOST = 40


def base_workspace(name: str) -> str:
    """Return the name of the InferenceWorkspace of a base model: a DNS label that no other base has."""
    label = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_MOST].strip("-")
    if label == name:
        return f"base-{label}"
    return f"base-{label}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def checkpoint_workspace(job_object: str, step: int) -> str:
    """Return the name of the InferenceWorkspace of a checkpoint.

    Args:
        job_object: Name of the job's FineTuneJob.
        step: The step.
    """
    return f"{job_object}-ckpt-{step}"
